"""The first stage of an audit: each row by itself, without a model, by several processes.

A block's signals are written to a file of their own, whole or not at all; what is there stays.
"""

import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vietst.audit.rows import AuditRow, Block
from vietst.audit.signals import format_number
from vietst.audit.text_signals import TextFacts, measure_texts
from vietst.data.tables import write_table
from vietst.errors import AudioError, VietstError
from vietst.evaluation.scoring_normalizer import NUMBERS_ID
from vietst.runtime import pool_size

if TYPE_CHECKING:
    from vietst.audit.audio_signals import ClipSound
    from vietst.inference.voice_activity import SileroNetwork

STAGE_SETTINGS: Final = {"stage": "rows", "version": 4, "numbers": NUMBERS_ID}
"""`version` goes up when a signal of this stage would get another value; not for the rules by which numbers
are compared, which have a name of their own."""

FINGERPRINT: Final = "fingerprint"
_SOUND: Final = (
    "duration", "speech", "music", "silence", "noise", "level_dbfs", "clipping", "snr_db",
    "edge_start_db", "edge_end_db",
)  # fmt: skip
_TEXTS: Final = (
    "length_ratio", "copy", "shared_words", "wrong_language", "untranslated_english", "number_mismatch",
)  # fmt: skip
COLUMNS: Final = ("id", "audio_error", "syllables_per_second", *_SOUND, *_TEXTS, FINGERPRINT)
_CLIPS_AT_ONCE: Final = 16
"""That the voice activity's network hears together."""
_JOBS_AHEAD: Final = 2


@dataclass(frozen=True)
class _Job:
    block: Block
    audio_root: Path
    path: Path


def measure_blocks(
    blocks: Iterable[Block], folder: Path, *, audio_root: Path, num_proc: int
) -> Iterator[int]:
    """Writes the signals of the blocks that are not there yet; yields the number of rows of each.

    Raises:
        VietstError: a process was ended from outside, or silero-vad is not there.
    """
    jobs = (
        _Job(block, audio_root, path)
        for block in blocks
        if not (path := block.path(folder, STAGE_SETTINGS)).is_file()
    )
    return _in_processes(jobs, num_proc) if num_proc > 1 else map(_measure_block, jobs)


def _in_processes(jobs: Iterator[_Job], num_proc: int) -> Iterator[int]:
    num_proc = pool_size(num_proc)
    pool = ProcessPoolExecutor(
        num_proc, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    running: set[Future[int]] = set()
    try:
        while True:
            ahead = itertools.islice(jobs, _JOBS_AHEAD * num_proc - len(running))
            running |= {pool.submit(_measure_block, job) for job in ahead}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise VietstError(
            where="a process that measures audio",
            rule="it runs until its rows are measured",
            found="it was ended from outside (out of memory?)",
            do="run the same command again, with a smaller --num_proc: the audit goes on where it stopped",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@functools.lru_cache(maxsize=1)
def _network() -> "SileroNetwork":
    from vietst.inference.voice_activity import load_network

    return load_network()


def _measure_block(job: _Job) -> int:
    """Writes the signals of a block; returns its number of rows."""
    cells = []
    for start in range(0, len(job.block.rows), _CLIPS_AT_ONCE):
        rows = job.block.rows[start : start + _CLIPS_AT_ONCE]
        for row, sound in zip(rows, _sounds(rows, job.audio_root), strict=True):
            cells.append(_cells(row, sound, measure_texts(row.transcript, row.translation)))
    write_table(job.path, cells, COLUMNS)
    return len(cells)


def _sounds(rows: Sequence[AuditRow], audio_root: Path) -> "list[ClipSound | AudioError]":
    """What the clips sound like, or why they cannot be heard."""
    from vietst.audit.audio_signals import measure_clips
    from vietst.data.audio import load_utterance

    found: dict[int, ClipSound | AudioError] = {}
    waveforms = {}
    for position, row in enumerate(rows):
        try:
            waveforms[position] = load_utterance(audio_root, asdict(row))
        except AudioError as error:
            found[position] = error
    if waveforms:
        sounds = measure_clips(_network(), list(waveforms.values()))
        found |= dict(zip(waveforms, sounds, strict=True))
    return [found[position] for position in range(len(rows))]


def _cells(row: AuditRow, sound: "ClipSound | AudioError", texts: TextFacts) -> dict[str, str]:
    cells = dict.fromkeys(COLUMNS, "") | {"id": row.id, "wrong_language": texts.wrong_language}
    for name in _TEXTS:
        if name != "wrong_language":
            cells[name] = format_number(getattr(texts, name))
    if isinstance(sound, AudioError):
        return cells | {"audio_error": sound.code}
    for name in _SOUND:
        cells[name] = format_number(getattr(sound, name))
    return cells | {
        "syllables_per_second": format_number(texts.num_syllables / sound.duration),
        FINGERPRINT: sound.fingerprint.astype("<u4").tobytes().hex(),
    }
