"""From the manifest as it was exported to the rows worth training on, with a reason for every other row.

Standard columns: `audio_path`, `transcript`, `translation` (required), `duration` (seconds), `id`,
`video_id`, `speaker_id`, `channel_id`, `verified` (becomes true, false or empty), `language` (of the
transcript: a code, or empty); all others are carried along untouched. `preprocess_manifest` writes the
cleaned manifest and, beside it, `rejected.tsv`, `preprocess_summary.json` and `audio_facts.tsv`.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from vietst.data.audio_facts import AudioFactsFile
from vietst.data.audited_manifest import is_audited, summary_path
from vietst.data.cleaning_pass import CleaningPass
from vietst.data.records import format_record
from vietst.data.rejections import Journal
from vietst.data.row_rules import PreprocessOptions
from vietst.data.sources import (
    JoinedTables,
    Manifests,
    digest_of,
    name_of,
    open_manifests,
    paths_of,
    recorded,
)
from vietst.data.tables import Table, atomic_writer, delimiter_of, file_digest, refuse_folder, write_json
from vietst.data.takedown_list import Takedown
from vietst.errors import ManifestError
from vietst.runtime import get_logger

REJECTED_NAME: Final = "rejected.tsv"
SUMMARY_NAME: Final = "preprocess_summary.json"
AUDIO_FACTS_NAME: Final = "audio_facts.tsv"

RULES_VERSION: Final = 2
"""Goes up when the same manifest and options would give other rows."""

_SUSPICIOUS_SHARE_OF_SINGLE_CLIP_VIDEOS: Final = 0.5

_logger = get_logger(__name__)


def preprocess_manifest(
    input_path: Manifests,
    output_path: Path,
    *,
    audio_root: Path = Path(),
    options: PreprocessOptions | None = None,
    takedown: Takedown | None = None,
    num_proc: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Cleans texts, measures audio, and keeps the rows that hold what training needs.

    Args:
        input_path: TSV, or CSV if its name ends so; or those of several sources, see `sources`.
        output_path: the cleaned manifest, likewise.
        takedown: rows that it names are removed.
        num_proc: audio files that are decoded at once; None: one for each CPU core.

    Returns:
        What also stands in `preprocess_summary.json`.

    Raises:
        ManifestError: the manifest as a whole cannot be used, or no row is left (`rejected.tsv` is written).
    """
    options = options or PreprocessOptions()
    refuse_folder(output_path)
    if output_path.resolve() in (path.resolve() for path in paths_of(input_path)):
        raise ManifestError(
            where=str(output_path),
            rule="the cleaned manifest is a file of its own",
            found="the manifest itself",
            do="name another --output",
        )
    if is_audited(output_path):
        raise ManifestError(
            where=str(output_path),
            rule="cleaning does not put back what an audit dropped",
            found=f"what an audit left; {summary_path(output_path)} says so",
            do="name another --output (paths.clean_manifest_path), or delete that file",
        )
    if not audio_root.is_dir():
        raise ManifestError(
            where=str(audio_root),
            rule="the audio root is a folder; audio_path is relative to it",
            found="no such folder",
            do="name it with --audio_root (paths.data_root in a configuration)",
        )
    table = _open_manifest(input_path, options)
    num_threads = num_proc or os.cpu_count() or 1
    _logger.info(
        "%s: %d lines; measuring audio below '%s' with %d threads",
        name_of(input_path), table.num_data_lines, audio_root, num_threads,
    )  # fmt: skip
    takedown = takedown or Takedown()
    facts_file = AudioFactsFile(output_path.with_name(AUDIO_FACTS_NAME))
    cleaning = CleaningPass(table, audio_root, options, facts_file, takedown)
    rejected_path = output_path.with_name(REJECTED_NAME)
    columns = cleaning.columns_out
    with atomic_writer(output_path) as output:
        output.write(format_record(columns, delimiter_of(output_path)))
        with atomic_writer(rejected_path) as rejected:
            journal = Journal(rejected)
            for row in cleaning.kept_rows(journal, num_threads, progress):
                output.write(format_record([row[column] for column in columns], delimiter_of(output_path)))
        if cleaning.num_kept == 0:
            raise _nothing_kept(name_of(input_path), rejected_path, journal)
    summary = _summary(cleaning, journal, input_path, output_path, _options_record(audio_root, options))
    summary["takedown"] = sorted(takedown.entries)
    write_json(output_path.with_name(SUMMARY_NAME), summary)
    _report(summary, cleaning, output_path, rejected_path)
    return summary


def clean_manifest_is_current(
    input_path: Manifests,
    output_path: Path,
    *,
    audio_root: Path = Path(),
    options: PreprocessOptions | None = None,
    takedown: Takedown | None = None,
) -> bool:
    """Whether `output_path` was made from this manifest with these options; looks at no audio file."""
    try:
        summary = json.loads(output_path.with_name(SUMMARY_NAME).read_text(encoding="utf-8"))
        return bool(
            summary["rules_version"] == RULES_VERSION
            and summary["takedown"] == sorted((takedown or Takedown()).entries)
            and summary["options"] == _options_record(audio_root, options or PreprocessOptions())
            and summary["input"]["digest"] == digest_of(input_path)
            and summary["output"]["digest"] == file_digest(output_path)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open_manifest(manifests: Manifests, options: PreprocessOptions) -> Table | JoinedTables:
    required = ["audio_path", "transcript"] + ["translation"] * options.require_translation
    return open_manifests(
        manifests,
        required,
        if_missing="put the manifest there, name another with --input, or make a sample corpus: "
        "python scripts/make_sample_corpus.py",
    )


def _options_record(audio_root: Path, options: PreprocessOptions) -> dict[str, Any]:
    record = {"audio_root": audio_root.as_posix(), **asdict(options)}
    if not options.languages:  # manifests that were cleaned before sources had languages stay current
        del record["languages"]
    return record


def _summary(
    cleaning: CleaningPass,
    journal: Journal,
    input_path: Manifests,
    output_path: Path,
    options: dict[str, Any],
) -> dict[str, Any]:
    return {
        "made_by": "scripts/preprocess_manifest.py",
        "rules_version": RULES_VERSION,
        "options": options,
        "input": {
            "path": recorded(input_path),
            "digest": cleaning.table.digest,
            "num_rows": cleaning.num_rows,
            "hours": round(cleaning.hours_in, 6),
        },
        "output": {
            "path": output_path.as_posix(),
            "digest": file_digest(output_path),
            "num_rows": cleaning.num_kept,
            "hours": round(cleaning.hours_out, 6),
        },
        "removed": dict(sorted(journal.removed.items())),
        "changed": dict(sorted(journal.changed.items())),
        "kept": {
            "num_videos": len(cleaning.video_ids),
            "num_video_ids_from_path": cleaning.num_video_ids_from_path,
            "num_durations_filled": cleaning.num_durations_filled,
            "num_same_bytes_as_another_row": cleaning.num_same_bytes,
        },
    }


def _report(summary: dict[str, Any], cleaning: CleaningPass, output_path: Path, rejected_path: Path) -> None:
    rows_in, rows_out = summary["input"], summary["output"]
    _logger.info(
        "kept %d of %d rows, %.2f of %.2f hours: %s",
        rows_out["num_rows"], rows_in["num_rows"], rows_out["hours"], rows_in["hours"], output_path,
    )  # fmt: skip
    _logger.info("removed: %s; changed: %s", _counts(summary["removed"]), _counts(summary["changed"]))
    _logger.info("each removed or changed row with its reason: %s", rejected_path)
    if cleaning.num_same_bytes:
        _logger.warning("%d kept rows have the same audio bytes as another row", cleaning.num_same_bytes)
    num_single = sum(count == 1 for count in cleaning.video_ids.values())
    if (
        cleaning.num_video_ids_from_path
        and num_single > _SUSPICIOUS_SHARE_OF_SINGLE_CLIP_VIDEOS * cleaning.num_kept
    ):
        _logger.warning(
            "%d of %d rows are the only clip of their video. If the rule that reads the video from audio_path"
            " is wrong here, clips of one video get into several splits: see --video_id_pattern",
            num_single, cleaning.num_kept,
        )  # fmt: skip


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "none"


def _nothing_kept(input_name: str, rejected_path: Path, journal: Journal) -> ManifestError:
    return ManifestError(
        where=input_name,
        rule="at least one row can be used",
        found=f"none is left: {_counts(dict(sorted(journal.removed.items())))}",
        do=f"see the reason of each row in {rejected_path}",
    )
