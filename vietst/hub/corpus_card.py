"""The card of a corpus that is published without its audio: README.md, from recorded facts only."""

from pathlib import Path
from typing import Any, Final

from vietst import __version__
from vietst.constants import SPLITS
from vietst.data.verified import VERIFIED_COLUMN
from vietst.errors import HubError
from vietst.hub.corpus import Corpus, data_file
from vietst.hub.hub_lists import OTHER, license_terms
from vietst.hub.licenses import OWN
from vietst.hub.metadata_rules import check_card, is_hub_id
from vietst.hub.private_text import is_plain

CARD_NAME: Final = "README.md"

_SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_SIZE_NAMES: Final = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
"""How the Hub calls sizes, below these numbers of rows and above the last."""


def require_license(license: str | None) -> None:
    """Raises HubError for a license that a corpus's card cannot carry."""
    if license not in (None, OWN) and (license not in license_terms() or license == OTHER):
        raise HubError(
            where=f"--license {license}",
            rule="a license in the Hub's list (https://huggingface.co/docs/hub/repositories-licenses)",
            found=str(license),
            do="state one of them, for example cc-by-nc-4.0, or leave it out",
        )


def write_corpus_card(
    corpus: Corpus,
    *,
    name: str,
    repo_id: str | None,
    license: str | None,
    contact: str | None,
    audit_record: dict[str, Any] | None,
) -> Path:
    """Writes README.md beside the data.

    Args:
        repo_id: OWNER/NAME; None: it goes to no Hub as yet.
        license: of the texts, as the Hub writes it; None or `own`: not stated.
        contact: whom to ask for a takedown; None: the repository's Community tab.
        audit_record: `audit.json` of the audit whose signals are in the data.

    Raises:
        HubError: a license that the Hub does not know, or a card that breaks a rule.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    require_license(license)
    license = None if license == OWN else license
    environment = Environment(
        loader=PackageLoader("vietst", "templates"),
        autoescape=False,  # it is Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    splits = {split: corpus.audit["splits"][split] for split in SPLITS}
    text = environment.get_template("corpus_card.md").render(
        card_data=_metadata(corpus, name, license),
        name=name,
        repo_id=repo_id,
        is_on_the_hub=repo_id is not None,
        splits=splits,
        split_hash=corpus.audit["split_hash"],
        num_keys_in_several=corpus.audit["groups"]["keys_in_several_splits"]["num_keys"],
        only_verified=corpus.audit["eval_from"] == "verified",
        knows_speakers=any(facts["num_speakers"] for facts in splits.values()),
        knows_verified=corpus.has(VERIFIED_COLUMN),
        columns=corpus.columns,
        num_with_signals=corpus.num_with_signals,
        seed_model=_seed_model(audit_record),
        has_url=corpus.has("source_url"),
        has_times=corpus.has("start_s") or corpus.has("video_start_s"),
        contact=contact,
        license=license,
        version=__version__,
    )
    path = corpus.folder / CARD_NAME
    path.write_text(text, encoding="utf-8", newline="\n")
    problems = check_card(path)
    if problems:
        raise HubError(
            where=f"card {path}",
            rule="a card as the Hub takes it, and nothing about this machine",
            found="; ".join(problems),
            do="correct what was stated: --license, --contact, or the name",
        )
    return path


def _metadata(corpus: Corpus, name: str, license: str | None) -> str:
    from huggingface_hub import DatasetCardData

    size = _SIZE_NAMES[sum(corpus.num_rows >= limit for limit in _SIZES)]
    metadata = DatasetCardData(
        pretty_name=name,
        language=["vi", "en"],
        license=license,
        task_categories=["automatic-speech-recognition", "translation"],
        size_categories=[size],
        tags=["code-switching", "vietst-corpus"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": data_file(split)} for split in SPLITS],
            }
        ],
    )
    return str(metadata.to_yaml())


def _seed_model(audit_record: dict[str, Any] | None) -> str:
    """Its Hub id or plain name; where it lay on a disk is nobody's business."""
    model = (audit_record or {}).get("model")
    if not model:
        return "none"
    name = str(model["name"])
    if is_hub_id(name) and not Path(name).exists():
        return name
    name = Path(name).name
    return f"{name}, a model of their own" if is_plain(name) else "a model of their own"
