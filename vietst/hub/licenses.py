"""Which license a model may carry: it follows from those of its base models and of its training data. And
whether features or a corpus made of the data may be published.

The cautious reading is taken throughout: a model is derived from its base models and from its data. Whether
the law says so of data is not settled everywhere; this is no legal advice.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vietst.config_schema import HubSection
from vietst.errors import HubError
from vietst.hub.hub_lists import OTHER, base_licenses, license_terms

OWN: Final = "own"
"""For `hub.dataset_license`: the data are one's own, or were licensed for this, so they ask for nothing."""


_NO_DERIVATIVES_MEANS: Final = "it permits nobody to publish what is derived from it"


class Term(StrEnum):
    """What a license asks of works that are derived from what carries it."""

    PERMISSIVE = "permissive"
    NON_COMMERCIAL = "non-commercial"
    NO_DERIVATIVES = "no-derivatives"
    SHARE_ALIKE = "share-alike"
    OWN_TERMS = "own terms"
    """Limits of use that have to be passed on, in words of its own."""
    UNCLEAR = "unclear"
    """A family of licenses, or a name that says nothing."""


@dataclass(frozen=True)
class Source:
    """Something that a model is derived from."""

    name: str
    license: str | None
    """None: not known."""
    key: str
    """The configuration key that states the license where it is not known."""


@dataclass(frozen=True)
class ModelLicense:
    """The license of a model, and what it follows from."""

    license: str | None
    """None: none can be named."""
    sources: tuple[Source, ...]


def sources_of(hub: HubSection, base_origin: str | None, base_hub_ids: Sequence[str]) -> tuple[Source, ...]:
    """What a run's model is derived from.

    Args:
        base_origin, base_hub_ids: from the run's facts (`base_models.base_facts`); None: not recorded.
    """
    known = base_licenses()
    sources = [
        Source(f"base model {hub_id}", known.get(hub_id, hub.base_license), "hub.base_license")
        for hub_id in base_hub_ids
    ]
    if base_origin == "local":
        sources.append(Source("base model from a local folder", hub.base_license, "hub.base_license"))
    elif base_origin is None:
        sources.append(Source("base model, not recorded", hub.base_license, "hub.base_license"))
    return (*sources, _data_source(hub))


def _data_source(hub: HubSection) -> Source:
    return Source("training data", hub.dataset_license, "hub.dataset_license")


def model_license(hub: HubSection, base_origin: str | None, base_hub_ids: Sequence[str]) -> ModelLicense:
    """The license that is stated, if its sources permit it; where none is stated, the first of its sources'
    that all of them permit, if all are known.

    Raises:
        HubError: a license that the Hub does not know or a source forbids, a source of unknown license, or
            one that forbids that everybody sees the model, whatever its license.
    """
    sources = sources_of(hub, base_origin, base_hub_ids)
    for key, stated in (
        ("hub.license", hub.license),
        ("hub.base_license", hub.base_license),
        ("hub.dataset_license", hub.dataset_license),
    ):
        if stated is not None and not (stated == OWN and key != "hub.license"):
            _require_known(key, stated)
    if not hub.private:
        for source in sources:
            _require_permission_to_publish(
                source, "hub.private=false", "keep it private (--private, hub.private=true)"
            )
    if hub.license is None:
        return ModelLicense(_first_permitted(sources), sources)
    if Term.UNCLEAR in _terms(hub.license):
        raise HubError(
            where=f"hub.license={hub.license}",
            rule="a license whose terms the Hub's readers know",
            found=hub.license,
            do="state one of the Hub's licenses, or leave it out and write the terms into the repository",
        )
    for source in sources:
        _require_permission("hub.license", hub.license, source)
    return ModelLicense(hub.license, sources)


def require_data_permit(hub: HubSection, *, public: bool, license: str | None = None) -> None:
    """Holds what is made of the data alone, features or a corpus, to the data's license, where it is stated.

    Args:
        license: `--license`, which it shall carry; None: none is stated.

    Raises:
        HubError: a license that the Hub does not know, or what the data's license forbids.
    """
    source = _data_source(hub)
    # Without --license a corpus carries that of its data: a wrong one is named by the key that states it.
    for key, stated in ((source.key, source.license), ("--license", license)):
        if stated not in (None, OWN):
            _require_known(key, stated)
    if public:
        _require_permission_to_publish(source, "--public", "keep it private (without --public)")
    if source.license is not None and license not in (None, OWN, source.license):
        _require_permission("--license", license, source)


def _first_permitted(sources: Sequence[Source]) -> str | None:
    if any(source.license is None for source in sources):
        return None
    for candidate in [source.license for source in sources if source.license not in (None, OWN)]:
        assert candidate is not None
        if all(why_forbidden(candidate, source) is None for source in sources):
            return candidate
    return None


def why_forbidden(license: str, source: Source) -> str | None:
    """Why a source does not permit that what is derived from it carries this license; None: it does."""
    if source.license == OWN:
        return None
    assert source.license is not None
    asked = _terms(source.license)
    if Term.NO_DERIVATIVES in asked:
        return _NO_DERIVATIVES_MEANS
    if Term.UNCLEAR in asked:
        return "it does not say what it permits"
    if license == source.license:
        return None
    if Term.SHARE_ALIKE in asked or Term.OWN_TERMS in asked:
        return "what is derived from it has to carry the same license"
    if Term.NON_COMMERCIAL in asked and Term.NON_COMMERCIAL not in _terms(license):
        return "what is derived from it may not be given away for commercial use"
    return None


def _require_permission_to_publish(source: Source, where: str, instead: str) -> None:
    if source.license in (None, OWN) or Term.NO_DERIVATIVES not in _terms(str(source.license)):
        return
    raise HubError(
        where=where,
        rule="what everybody may see is what the base models and the training data permit to publish",
        found=f"the {source.name} is under {source.license}: {_NO_DERIVATIVES_MEANS}",
        do=f"{instead}; or get permission from its owner, and state {source.key}={OWN} then",
    )


def _require_permission(key: str, license: str, source: Source) -> None:
    if source.license is None:
        raise HubError(
            where=f"{key}={license}",
            rule="a license that follows from those of the base models and the training data",
            found=f"the license of the {source.name} is not known",
            do=f"look it up and state {source.key} ({OWN}: the rights are yours), or leave {key} out",
        )
    reason = why_forbidden(license, source)
    if reason is not None:
        raise HubError(
            where=f"{key}={license}",
            rule="a license that those of the base models and the training data permit",
            found=f"the {source.name} is under {source.license}: {reason}",
            do=_what_else(key, source),
        )


def _what_else(key: str, source: Source) -> str:
    asked = _terms(str(source.license))
    if Term.NO_DERIVATIVES in asked or Term.UNCLEAR in asked:
        return f"get permission from its owner, and state {source.key}={OWN} then; or do not publish it"
    if Term.SHARE_ALIKE in asked or Term.OWN_TERMS in asked:
        return f"state {key}={source.license}, or train without it"
    return f"state {key}={source.license} or another one for non-commercial use, or train without it"


def _terms(license: str) -> list[Term]:
    return [Term(term) for term in license_terms()[license]]


def _require_known(key: str, license: str) -> None:
    known = license_terms()
    if license in known:
        return
    near = difflib.get_close_matches(license.lower().replace(" ", "-"), known, n=1, cutoff=0.5)
    raise HubError(
        where=f"{key}={license}",
        rule="one of the Hub's licenses, as it writes them (https://huggingface.co/docs/hub/repositories-licenses)",
        found=license,
        do=f"state {near[0]}, if that is meant" if near else f"state one of them, or {OTHER}",
    )
