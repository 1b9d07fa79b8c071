"""Publishing a corpus from the command line: the folder, its card, and the repository if one is named."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vietst.audit.audit import RECORD_NAME, SIGNALS_NAME
from vietst.hub.corpus import FOLDER_NAME, Corpus, write_corpus
from vietst.hub.corpus_card import require_license, write_corpus_card
from vietst.hub.corpus_publishing import push_corpus, require_repository
from vietst.hub.licenses import require_data_permit
from vietst.hub.published_record import read_record
from vietst.runtime import get_logger

if TYPE_CHECKING:
    from vietst.config_schema import RunConfig

logger = get_logger(__name__)


@dataclass(frozen=True)
class CorpusOptions:
    """What the command line says; None: nothing."""

    output: Path | None = None
    audit_dir: Path | None = None
    source_url: str | None = None
    license: str | None = None
    contact: str | None = None
    repo_id: str | None = None
    public: bool = False


def publish_corpus(config: "RunConfig", options: CorpusOptions) -> Corpus:
    """Writes the dataset without audio, and pushes it where a repository is named.

    Raises:
        ManifestError: missing or broken splits.
        HubError: an audit's record that cannot be read; what may not be published, or a Hub that refuses,
            which is told before anything is written.
    """
    require_data_permit(config.hub, public=options.public, license=options.license)
    require_license(options.license)
    repo_id = options.repo_id
    if repo_id is not None:
        repo_id = require_repository(repo_id, public=options.public)
    folder = options.output or config.paths.output_dir / FOLDER_NAME
    audit_dir = options.audit_dir or _audit_beside(config)
    audit_record = _record(audit_dir)
    corpus = write_corpus(config.paths, folder, audit_dir=audit_dir, source_url=options.source_url)
    write_corpus_card(
        corpus,
        name=(repo_id or folder.resolve().name).rpartition("/")[2],
        repo_id=repo_id,
        license=options.license,
        contact=options.contact,
        audit_record=audit_record,
    )
    _say(corpus)
    if repo_id is not None:
        logger.info("published: %s", push_corpus(repo_id, corpus, public=options.public))
    return corpus


def _audit_beside(config: "RunConfig") -> Path | None:
    folder = config.paths.splits_dir.parent / "audit"
    return folder if (folder / SIGNALS_NAME).is_file() else None


def _record(audit_dir: Path | None) -> dict[str, Any] | None:
    path = audit_dir / RECORD_NAME if audit_dir is not None else None
    if path is None or not path.is_file():
        return None
    return read_record(path)


def _say(corpus: Corpus) -> None:
    logger.info("%d utterances without audio: %s", corpus.num_rows, corpus.folder)
    if corpus.num_with_signals is not None and corpus.num_with_signals < corpus.num_rows:
        logger.warning("an audit has looked at %d of %d utterances", corpus.num_with_signals, corpus.num_rows)
    if not corpus.has("source_url"):
        logger.warning("no address of the recordings (--source_url): readers get their ids only")
    if corpus.has("speaker_id"):
        logger.warning("speaker_id is published as the manifest has it: see that these are no persons' names")
    if corpus.left_out:
        logger.info("left out: %s", ", ".join(corpus.left_out))
