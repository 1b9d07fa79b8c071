"""An audit of a manifest: signals of every row, measured once, whatever is decided by them afterwards.

    data/audit/
        signals.tsv   a line for each manifest row, in its order: id, audio_path, then `signals.SIGNALS`
        audit.json    what was audited, with what, and what came out
        audit.html    to look and to listen
        work/         what was measured, block by block: with it an interrupted audit goes on

Memory holds some numbers for each row, never the texts or the audio of all of them.
"""

import contextlib
import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from vietst.audit import measuring
from vietst.audit.comparisons import NO_ROW, Comparisons, MeasuredRow, compare_rows
from vietst.audit.curves import kept_curves
from vietst.audit.rows import Block, RowBlocks, open_manifest
from vietst.audit.signals import SIGNALS, Signal, format_number, suggested_drop, suggested_terms
from vietst.data.records import format_record
from vietst.data.tables import atomic_writer, file_digest, read_table, write_json
from vietst.environment import package_versions
from vietst.errors import ManifestError
from vietst.runtime import get_logger, quiet_libraries

SIGNALS_NAME: Final = "signals.tsv"
RECORD_NAME: Final = "audit.json"
COLUMNS: Final = ("id", "audio_path", *(signal.name for signal in SIGNALS))
WORK_NAME: Final = "work"
_VERSION: Final = 2
"""Goes up when the same measurements would be compared or told in another way."""

_logger = get_logger(__name__)


@dataclass(frozen=True)
class _Stage:
    """A folder of blocks, and the settings that name its files."""

    folder: Path
    settings: Mapping[str, Any]

    def path(self, block: Block) -> Path:
        return block.path(self.folder, self.settings)


def audit_manifest(
    manifest_path: Path,
    output_dir: Path,
    *,
    audio_root: Path = Path(),
    model: str | None = None,
    num_proc: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures the signals of a manifest that are not measured yet, and writes what came out.

    Args:
        manifest_path: TSV or CSV with audio_path and transcript; a translation, ids, groups and, of cut
            videos, start_s and end_s are used where they are there.
        model: a seed model, a folder or Hub id; None: signals of audio and texts only.
        num_proc: processes that measure audio; None: one for each CPU core.

    Returns:
        What also stands in `audit.json`.

    Raises:
        VietstError: a manifest or a model that cannot be used.
    """
    blocks = _open_blocks(manifest_path, audio_root)
    stages = _stages(output_dir / WORK_NAME, model)
    key = _key(manifest_path, audio_root, blocks, stages)
    record = _finished_record(output_dir, key)
    if record is not None:
        _logger.info("%s: is already the audit of %s", output_dir / RECORD_NAME, manifest_path)
        return record
    num_proc = num_proc or os.cpu_count() or 1
    _logger.info(
        "%s: %d rows to audit, with %d processes; %d are measured already",
        manifest_path, blocks.num_rows, num_proc, blocks.num_rows - _num_missing(blocks, stages[0]),
    )  # fmt: skip
    _measure(blocks, stages, audio_root, model, num_proc, progress)
    comparisons = compare_rows(_measured_rows(blocks, stages[0]), stages[0].folder)
    values, durations_s = _write_signals(output_dir / SIGNALS_NAME, blocks, stages, comparisons)
    suggested = suggested_terms(with_model=model is not None)
    record = {
        "made_by": "scripts/audit_manifest.py",
        "key": key,
        "manifest": {
            "path": manifest_path.as_posix(),
            "digest": blocks.table.digest,
            "num_rows": blocks.num_rows,
            "hours": round(float(np.nansum(durations_s)) / 3600, 6),
        },
        "audio_root": audio_root.as_posix(),
        "model": None if model is None else {"name": model, **stages[1].settings},
        "settings": [dict(stage.settings) for stage in stages],
        "packages": package_versions(),
        "signals_digest": file_digest(output_dir / SIGNALS_NAME),
        "suggested_drop": suggested_drop(with_model=model is not None),
        "signals": [
            _told(signal, suggested.get(signal.name), values[signal.name], durations_s) for signal in SIGNALS
        ],
    }
    write_json(output_dir / RECORD_NAME, record)
    _remove_old_blocks(blocks, stages)
    _report(record, output_dir)
    return record


def _open_blocks(manifest_path: Path, audio_root: Path) -> RowBlocks:
    if not audio_root.is_dir():
        raise ManifestError(
            where=str(audio_root),
            rule="the audio root is a folder; audio_path is relative to it",
            found="no such folder",
            do="name it with --audio_root (paths.data_root in a configuration)",
        )
    return RowBlocks(open_manifest(manifest_path), audio_root)


def _stages(work_dir: Path, model: str | None) -> list[_Stage]:
    """That of rows by themselves, and with a model its own."""
    stages = [_Stage(work_dir / "rows", measuring.STAGE_SETTINGS)]
    if model is not None:
        from vietst.audit.seed_model import stage_settings

        settings = stage_settings(model)
        version = hashlib.sha256(settings["model_version"].encode()).hexdigest()[:12]
        stages.append(_Stage(work_dir / f"model-{version}", settings))
    return stages


def _key(manifest_path: Path, audio_root: Path, blocks: RowBlocks, stages: list[_Stage]) -> str:
    """Of an audit: the same one need not be told again."""
    places = manifest_path.as_posix(), audio_root.as_posix()
    decisive = [_VERSION, places, blocks.digest, [dict(stage.settings) for stage in stages]]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _finished_record(output_dir: Path, key: str) -> dict[str, Any] | None:
    """The record of an audit of the same rows with the same settings, whose signals are there."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((output_dir / RECORD_NAME).read_text(encoding="utf-8"))
        if record["key"] == key and record["signals_digest"] == file_digest(output_dir / SIGNALS_NAME):
            return dict(record)
    return None


# --- measuring --------------------------------------------------------------------------------------------


def _measure(
    blocks: RowBlocks,
    stages: list[_Stage],
    audio_root: Path,
    model: str | None,
    num_proc: int,
    progress: bool,
) -> None:
    of_rows = stages[0]
    num_missing = _num_missing(blocks, of_rows)
    if num_missing:
        done = measuring.measure_blocks(blocks, of_rows.folder, audio_root=audio_root, num_proc=num_proc)
        _with_progress(done, blocks.num_rows, num_missing, "audio and texts", progress)
    if model is not None and (num_missing := _num_missing(blocks, stages[1])):
        from vietst.audit.seed_model import SeedModel

        quiet_libraries()
        seed_model = SeedModel(model, stages[1].settings)
        _logger.info(
            "%s is asked to %s clips of up to %g s",
            model,
            " and ".join(seed_model.tasks),
            seed_model.window_s,
        )
        done = seed_model.judge_blocks(blocks, stages[1].folder, audio_root=audio_root)
        _with_progress(done, blocks.num_rows, num_missing, "seed model", progress)


def _num_missing(blocks: RowBlocks, stage: _Stage) -> int:
    return sum(len(block.rows) for block in blocks if not stage.path(block).is_file())


def _with_progress(
    done: Iterator[int], num_rows: int, num_missing: int, description: str, progress: bool
) -> None:
    from tqdm import tqdm

    bar = tqdm(
        total=num_rows, initial=num_rows - num_missing, desc=description, unit=" rows", disable=not progress
    )
    with bar:
        for num_done in done:
            bar.update(num_done)


def _remove_old_blocks(blocks: RowBlocks, stages: list[_Stage]) -> None:
    """Of rows that are no longer so, and what killed processes left."""
    for stage in stages:
        wanted = {stage.path(block).name for block in blocks}
        for path in stage.folder.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)


# --- telling ----------------------------------------------------------------------------------------------


def _measured_rows(blocks: RowBlocks, stage: _Stage) -> Iterator[MeasuredRow]:
    for block in blocks:
        for row, cells in zip(block.rows, read_table(stage.path(block)), strict=True):
            yield MeasuredRow(
                row,
                float(cells["syllables_per_second"] or "nan"),
                np.frombuffer(bytes.fromhex(cells[measuring.FINGERPRINT]), "<u4"),
            )


def _write_signals(
    path: Path, blocks: RowBlocks, stages: list[_Stage], comparisons: Comparisons
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Writes `signals.tsv`.

    Returns:
        Each signal's numbers (1 for a text that is not empty) and the durations in seconds: float
        [num_rows], NaN where not measured.
    """
    values = {signal.name: array("d") for signal in SIGNALS}
    with atomic_writer(path) as file:
        file.write(format_record(COLUMNS, "\t"))
        for cells in _rows_of_signals(blocks, stages, comparisons):
            file.write(format_record([cells[column] for column in COLUMNS], "\t"))
            for signal in SIGNALS:
                cell = cells[signal.name]
                values[signal.name].append(float(cell or "nan") if signal.is_number else float(cell != ""))
    arrays = {name: np.frombuffer(of_signal) for name, of_signal in values.items()}
    return arrays, arrays["duration"]


def _rows_of_signals(
    blocks: RowBlocks, stages: list[_Stage], comparisons: Comparisons
) -> Iterator[dict[str, str]]:
    originals = set(comparisons.duplicate_of.tolist())
    id_of: dict[int, str] = {}
    number = 0
    for block in blocks:
        measured = zip(block.rows, *(read_table(stage.path(block)) for stage in stages), strict=True)
        for row, *of_stages in measured:
            if number in originals:
                id_of[number] = row.id
            cells = dict.fromkeys(COLUMNS, "") | dict(chain.from_iterable(c.items() for c in of_stages))
            cells |= {"id": row.id, "audio_path": row.audio_path}
            cells |= _compared(comparisons, number, id_of)
            number += 1
            yield cells


def _compared(comparisons: Comparisons, number: int, id_of: Mapping[int, str]) -> dict[str, str]:
    original = int(comparisons.duplicate_of[number])
    z, overlap_s = float(comparisons.syllable_rate_z[number]), float(comparisons.overlap_s[number])
    return {
        "syllable_rate_z": format_number(z),
        "duplicate_of": "" if original == NO_ROW else id_of[original],
        "overlap_s": format_number(overlap_s),
    }


def _told(
    signal: Signal, suggested: str | None, values: np.ndarray, durations_s: np.ndarray
) -> dict[str, Any]:
    """What `audit.json` says of a signal."""
    seconds = np.nan_to_num(durations_s)
    if signal.is_number:
        counts: dict[str, Any] = {"num_measured": int(np.isfinite(values).sum())}
    else:
        counts = {"num_rows": int(values.sum()), "hours": round(float(seconds[values > 0].sum()) / 3600, 6)}
    return {
        **asdict(signal),
        "suggested": suggested,
        **counts,
        "curves": kept_curves(values, seconds, signal.kind),
    }


def _report(record: Mapping[str, Any], output_dir: Path) -> None:
    manifest = record["manifest"]
    _logger.info("audited %d rows, %.2f hours: %s", manifest["num_rows"], manifest["hours"], output_dir)
    for signal in record["signals"]:
        if signal.get("num_rows") and signal["kind"] == "name":
            _logger.info("%s: %d rows, %.2f hours", signal["name"], signal["num_rows"], signal["hours"])
    _logger.info("nothing is dropped unless you say so, for example --drop '%s'", record["suggested_drop"])
