"""Which license a model may carry: every rule with what it refuses and what it lets pass."""

from typing import Any

import pytest

from vietst.config_schema import HubSection
from vietst.errors import HubError
from vietst.hub.hub_lists import base_licenses, license_terms
from vietst.hub.licenses import Term, model_license, require_data_permit

WHISPER = ["openai/whisper-small"]
E2E = ["facebook/wav2vec2-large-xlsr-53", "facebook/mbart-large-50"]
VIETNAMESE = ["nguyenvulebinh/wav2vec2-base-vietnamese-250h", "facebook/mbart-large-50"]


def license_of(hub_ids: list[str], origin: str | None = "hub", **hub: Any) -> str | None:
    return model_license(HubSection(**hub), origin, hub_ids).license


def refusal(hub_ids: list[str], origin: str | None = "hub", **hub: Any) -> str:
    with pytest.raises(HubError) as caught:
        license_of(hub_ids, origin, **hub)
    return str(caught.value)


def test_permissive_over_permissive_is_permitted() -> None:
    assert license_of(WHISPER, license="mit", dataset_license="cc-by-4.0") == "mit"
    assert license_of(E2E, license="apache-2.0", dataset_license="own") == "apache-2.0"


@pytest.mark.parametrize("license", ["apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0"])
def test_a_non_commercial_base_model_forbids_licenses_for_commercial_use(license: str) -> None:
    message = refusal(VIETNAMESE, license=license, dataset_license="own")
    assert "vietnamese-250h is under cc-by-nc-4.0" in message
    assert "commercial use" in message
    assert license_of(VIETNAMESE, license="cc-by-nc-4.0", dataset_license="own") == "cc-by-nc-4.0"
    assert license_of(VIETNAMESE, license="cc-by-nc-sa-4.0", dataset_license="own") == "cc-by-nc-sa-4.0"


def test_a_non_commercial_corpus_forbids_licenses_for_commercial_use() -> None:
    assert "training data is under cc-by-nc-4.0" in refusal(
        WHISPER, license="apache-2.0", dataset_license="cc-by-nc-4.0"
    )


@pytest.mark.parametrize("corpus", ["cc-by-nd-4.0", "cc-by-nc-nd-4.0"])
def test_no_license_suits_a_corpus_without_derivatives(corpus: str) -> None:
    for license in ("apache-2.0", "cc-by-nc-4.0", corpus):
        assert "publish" in refusal(WHISPER, license=license, dataset_license=corpus)


@pytest.mark.parametrize("corpus", ["cc-by-nd-4.0", "cc-by-nc-nd-4.0"])
def test_what_may_not_be_published_is_not_pushed_for_everybody_without_a_license_either(corpus: str) -> None:
    message = refusal(WHISPER, private=False, dataset_license=corpus)
    assert f"training data is under {corpus}" in message
    assert "hub.private=true" in message
    assert "state hub.dataset_license=own" in message
    assert "hub.base_license" in refusal([], "local", private=False, base_license=corpus)
    assert license_of(WHISPER, private=True, dataset_license=corpus) is None


@pytest.mark.parametrize("data", ["cc-by-nd-4.0", "cc-by-nc-nd-4.0"])
def test_what_is_made_of_data_without_derivatives_stays_private_too(data: str) -> None:
    of_model = refusal(WHISPER, private=False, dataset_license=data).splitlines()
    with pytest.raises(HubError) as caught:
        require_data_permit(HubSection(dataset_license=data), public=True)
    of_data = str(caught.value).splitlines()
    assert of_data[0] == "--public"
    assert of_data[1:3] == of_model[1:3], "the same rule"
    assert "state hub.dataset_license=own" in of_data[3]
    for hub, public in ((HubSection(dataset_license=data), False), (HubSection(dataset_license="own"), True)):
        require_data_permit(hub, public=public)
    require_data_permit(HubSection(), public=True)


def test_a_corpus_carries_no_license_that_its_data_forbid() -> None:
    data = HubSection(dataset_license="cc-by-nc-4.0")
    with pytest.raises(HubError, match=r"state --license=cc-by-nc-4\.0 or another"):
        require_data_permit(data, public=False, license="mit")
    require_data_permit(data, public=True, license="cc-by-nc-4.0")
    require_data_permit(HubSection(dataset_license="own"), public=True, license="cc-by-nd-4.0")
    with pytest.raises(HubError, match=r"^hub\.dataset_license=cc by nc"):
        require_data_permit(HubSection(dataset_license="cc by nc"), public=False, license="cc by nc")


def test_other_corpora_do_not_forbid_a_model_that_everybody_sees() -> None:
    assert license_of(WHISPER, private=False, dataset_license="cc-by-nc-4.0") == "cc-by-nc-4.0"
    assert license_of(WHISPER, private=False) is None


@pytest.mark.parametrize("corpus", ["cc-by-sa-4.0", "gpl-3.0", "cc-by-nc-sa-4.0"])
def test_share_alike_asks_for_itself(corpus: str) -> None:
    assert "same license" in refusal(WHISPER, license="apache-2.0", dataset_license=corpus)
    assert license_of(WHISPER, license=corpus, dataset_license=corpus) == corpus


def test_terms_of_its_own_are_passed_on() -> None:
    stated = {"base_license": "llama3.1", "dataset_license": "own"}
    assert "same license" in refusal(["someone/model"], license="apache-2.0", **stated)
    assert license_of(["someone/model"], license="llama3.1", **stated) == "llama3.1"


def test_what_is_not_known_has_to_be_stated() -> None:
    assert "hub.dataset_license" in refusal(WHISPER, license="mit")
    message = refusal(["facebook/mbart-large-50-many-to-many-mmt"], license="mit", dataset_license="own")
    assert "hub.base_license" in message
    assert "hub.base_license" in refusal([], "local", license="mit", dataset_license="own")
    assert "not recorded" in refusal([], None, license="mit", dataset_license="own")
    assert license_of([], "local", license="mit", dataset_license="own", base_license="mit") == "mit"


def test_an_untrained_base_asks_for_nothing() -> None:
    assert license_of([], "untrained", license="mit", dataset_license="own") == "mit"


def test_a_known_base_is_what_the_list_says_whatever_is_stated_of_unknown_ones() -> None:
    assert "250h" in refusal(VIETNAMESE, license="mit", dataset_license="own", base_license="mit")


def test_without_a_stated_license_the_first_that_all_permit_is_taken() -> None:
    assert license_of(E2E, dataset_license="own") == "apache-2.0"
    assert license_of(WHISPER, dataset_license="cc-by-nc-sa-4.0") == "cc-by-nc-sa-4.0"
    assert license_of(VIETNAMESE, dataset_license="cc-by-4.0") == "cc-by-nc-4.0"
    assert license_of(VIETNAMESE, dataset_license="cc-by-sa-4.0") is None, "the two exclude each other"
    assert license_of(WHISPER, dataset_license="cc-by-nd-4.0") is None
    assert license_of(WHISPER) is None
    assert license_of([], "untrained", dataset_license="own") is None


@pytest.mark.parametrize(
    ("stated", "do"),
    [
        ({"license": "Apache 2.0"}, "state apache-2.0"),
        ({"license": "own"}, "do:"),
        ({"license": "other"}, "repository"),
        ({"dataset_license": "CC-BY-4.0"}, "state cc-by-4.0"),
        ({"base_license": "apache2"}, "state apache-2.0"),
    ],
)
def test_what_the_hub_does_not_know_is_refused(stated: dict[str, str], do: str) -> None:
    assert do in refusal(WHISPER, **stated)


def test_the_lists_agree() -> None:
    terms = license_terms()
    assert set(base_licenses().values()) <= set(terms)
    assert {Term(term) for asked in terms.values() for term in asked} == set(Term)
    for license, asked in terms.items():
        if license.startswith("cc-"):
            assert ("-nc" in license) == (Term.NON_COMMERCIAL in asked), license
            assert ("-nd" in license) == (Term.NO_DERIVATIVES in asked), license
            assert ("-sa" in license) == (Term.SHARE_ALIKE in asked), license
