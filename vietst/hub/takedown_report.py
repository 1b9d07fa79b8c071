"""What was taken down, and what of it is still around: models, results, published copies, the audio."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vietst.audit.audit import SIGNALS_NAME, WORK_NAME
from vietst.data.audio_pieces import split_locator
from vietst.data.sources import manifests_of, name_of
from vietst.data.splits import read_audit
from vietst.data.take_down import Found
from vietst.data.takedown_features import named_rows
from vietst.data.takedown_list import NAMING_COLUMNS, Takedown
from vietst.data.takedown_tables import num_named
from vietst.errors import HubError, ManifestError
from vietst.evaluation.predictions_file import PREDICTIONS_SUFFIX
from vietst.hub.corpus import FOLDER_NAME
from vietst.hub.published_record import RESOLVED_CONFIG, RUN_FACTS, read_record
from vietst.runtime import get_logger

if TYPE_CHECKING:
    from vietst.config_schema import RunConfig

_MAX_LISTED: Final = 50

logger = get_logger(__name__)


def say_what_was_found(takedown: Takedown, found: Found, *, is_done: bool) -> None:
    """Counts, place by place; and entries that name nothing, which may be misspelled."""
    removed = "removed" if is_done else "to remove"
    if not takedown:
        logger.info("%s: no such list, or an empty one", takedown.path)
    elif found.is_nothing:
        logger.info("%s: %d entries, nothing to remove", takedown.path, len(takedown.entries))
    for path, num_rows in found.num_rows.items():
        if num_rows:
            logger.info("%s: %d utterances from %s", removed, num_rows, path)
    for cache in [*found.caches, *found.states]:
        logger.info("%s: %s, which held %d of them", removed, cache.directory, cache.num_rows)
    if found.leftovers:
        logger.info("%s: %d files and folders that killed commands left", removed, len(found.leftovers))
    for directory in found.rebuilt:
        logger.info("made without them: %s", directory)
    unknown = [entry for entry in takedown.entries if entry not in found.named.entries]
    if unknown:
        logger.warning(
            "%d entries name nothing that is here. If they are spelled right, all of it is gone: %s",
            *(len(unknown), ", ".join(unknown[:_MAX_LISTED])),
        )


def say_what_is_left(config: "RunConfig", takedown: Takedown, found: Found, *, is_done: bool) -> None:
    """Lists what nobody can take out of a file, and what is for its owner to decide.

    Raises:
        VietstError: a file that cannot be looked into; what was found before it is listed.
    """
    lines = []
    try:
        for line in what_is_left(config, takedown, found, is_done=is_done):
            lines.append(f"  - {line}")
    finally:
        if lines:
            logger.warning("still there:\n%s", "\n".join(lines))


def what_is_left(config: "RunConfig", takedown: Takedown, found: Found, *, is_done: bool) -> Iterator[str]:
    """One sentence for each thing.

    Args:
        is_done: what was found was removed.
    """
    if not takedown:
        return
    paths = config.paths
    if found.named.lines:
        yield (
            f"{len(found.named.lines)} rows of {name_of(manifests_of(config))}, which stays as it was "
            "exported; cleaning leaves them out"
        )
    files = sorted({split_locator(path)[0] for path in found.named.audio_paths})
    audio = [path for path in files if path and (paths.data_root / path).is_file()]
    if audio:
        yield f"{len(audio)} audio files below {paths.data_root}, the first of them {audio[0]}"
    for path in sorted((paths.output_dir / "results").glob(f"*{PREDICTIONS_SUFFIX}")):
        num_rows = num_named(path, takedown, found.named)
        if num_rows:
            name = path.name.removesuffix(PREDICTIONS_SUFFIX)
            yield (
                f"{num_rows} utterances in {path}, and what was made from it: {name}_report.html, "
                f"{name}_metrics.json, comparisons. Evaluate again, or delete them"
            )
    for folder, tables in sorted(_audits(paths.splits_dir.parent).items()):
        num_rows = max(num_named(path, takedown, found.named) for path in tables)
        if num_rows:
            yield f"{num_rows} utterances in the audit {folder}. Delete the folder, and audit again"
    num_rows = _num_rows_of_corpus(paths.output_dir / FOLDER_NAME, takedown)
    if num_rows:
        yield (
            f"{num_rows} utterances in {paths.output_dir / FOLDER_NAME}, and where it was pushed to. Publish "
            "it again; older revisions keep them until the repository's history is squashed"
        )
    yield from _runs(config, holds_now=not is_done and any(found.num_rows.values()))
    if isinstance(paths.features_dir, str):
        yield (
            f"{paths.features_dir}: push features that were built after this (build_features.py "
            "--push_to_hub); older revisions keep the others until the repository's history is squashed, and "
            "what was read of them lies in the Hub's cache of each machine (hf cache)"
        )


def _audits(data_dir: Path) -> dict[Path, list[Path]]:
    """The tables of each audit, finished or not."""
    tables = defaultdict(list)
    for path in data_dir.glob(f"*/{SIGNALS_NAME}"):
        tables[path.parent].append(path)
    for path in data_dir.glob(f"*/{WORK_NAME}/*/*.tsv"):
        tables[path.parents[2]].append(path)
    return tables


def _num_rows_of_corpus(folder: Path, takedown: Takedown) -> int:
    """How many utterances of a published corpus (`vietst.hub.corpus`) the list names."""
    from pyarrow import ArrowInvalid, parquet  # type: ignore[import-untyped]

    num_rows = 0
    for path in sorted(folder.glob("data/*.parquet")):
        try:
            columns = [name for name in parquet.read_schema(path).names if name in NAMING_COLUMNS]
            table = parquet.read_table(path, columns=columns)
        except ArrowInvalid as error:
            raise HubError(
                where=str(path),
                rule="a Parquet file, so that what it holds can be told",
                found=str(error),
                do="delete it, and publish the corpus again",
            ) from error
        num_rows += int(named_rows(table, takedown).sum())
    return num_rows


def _runs(config: "RunConfig", *, holds_now: bool) -> Iterator[str]:
    """Runs that were trained on other splits than those there are now, or on splits that hold named rows."""
    try:
        current = str(read_audit(config.paths.splits_dir)["split_hash"])
    except (ManifestError, KeyError):
        current = ""
    for facts_path in sorted(config.paths.output_dir.glob(f"*/{RUN_FACTS}")):
        facts = _read(facts_path)
        trained_on = str(facts.get("split_hash", "not recorded"))
        if trained_on != current or holds_now:
            run_dir = facts_path.parent
            hub = _read(run_dir / RESOLVED_CONFIG).get("hub") or {}
            published = f", and published as {hub['repo_id']}" if hub.get("repo_id") else ""
            yield (
                f"the model in {run_dir} with its checkpoints{published}: trained on the splits "
                f"{trained_on[:19]}…, which may have held them. Train it again, or decide to keep it"
            )


def _read(path: Path) -> dict[str, Any]:
    return read_record(path) if path.is_file() else {}
