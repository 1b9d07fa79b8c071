"""A faulty copy of a corpus whose truth is known.

Rows without a fault stay as they are, byte for byte, and name the same audio files; the faulty table names
new files only for changed audio. The same table, share and seed give the same faults and the same bytes.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from vietst.benchmarks.fault_plan import Fault, plan_faults
from vietst.benchmarks.faulty_audio import Samples, another_copy, half_silent, miscut, music_instead
from vietst.data.audio import load_waveform
from vietst.data.audio_paths import resolve_audio_path
from vietst.data.tables import open_table, write_table
from vietst.errors import ManifestError

TRUTH_NAME: Final = "faults.tsv"
TRUTH_COLUMNS: Final = ("id", "fault", "detail", "source_id")
REQUIRED_COLUMNS: Final = ("id", "audio_path", "transcript", "translation", "duration", "video_id")

Row = dict[str, str]


def inject_faults(
    table_path: Path, output_path: Path, *, audio_root: Path, share: float = 0.05, seed: int = 1
) -> list[Fault]:
    """Writes the faulty table, `faults.tsv` beside it (the truth), and changed audio to `audio/` beside it.

    Args:
        table_path: a cleaned manifest or a split of whole files, each video's rows in its order; TSV or CSV.
        output_path: the faulty table, with the same columns, below `audio_root`.
        audio_root: what `audio_path` is relative to, in both tables.
        share: of the rows, for each kind.
        seed: another seed, other rows and other varieties.

    Returns:
        The faults in the order of the rows.

    Raises:
        ManifestError: a table that cannot be used, or without enough rows that suit a kind.
        AudioError: audio that cannot be read.
    """
    table = open_table(table_path, REQUIRED_COLUMNS)
    rows = [row for _, row in table.rows()]
    try:
        faults = plan_faults(rows, share=share, seed=seed)
    except LookupError as error:
        raise ManifestError(
            where=str(table_path),
            rule=f"{share:.0%} of the rows suit each kind of fault",
            found=str(error),
            do="take a larger corpus, with some ten rows in each video, or a smaller share",
        ) from error
    audio_dir = output_path.parent / "audio"
    audio_dir.mkdir(parents=True, exist_ok=True)
    faulty_rows = list(rows)
    for fault in faults:
        faulty_rows[fault.index] = rows[fault.index] | _changed_texts(rows, fault)
        if fault.audio_of:
            path = audio_dir / f"{fault.index:06d}.wav"
            faulty_rows[fault.index] |= _write_clip(path, rows, fault, audio_root, seed)
    write_table(output_path, faulty_rows, table.columns)
    write_table(output_path.with_name(TRUTH_NAME), _truth_rows(rows, faults), TRUTH_COLUMNS)
    return faults


def _truth_rows(rows: Sequence[Row], faults: Iterable[Fault]) -> Iterable[Row]:
    for fault in faults:
        source_id = "" if fault.source is None else rows[fault.source]["id"]
        values = (rows[fault.index]["id"], fault.kind, fault.detail, source_id)
        yield dict(zip(TRUTH_COLUMNS, values, strict=True))


def _changed_texts(rows: Sequence[Row], fault: Fault) -> Row:
    """The columns of texts that a fault changes, with what stands there then."""
    if fault.kind == "copied_transcript":
        return {"translation": rows[fault.index]["transcript"]}
    if fault.source is None:
        return {}
    source = rows[fault.source]
    if fault.kind == "swapped_translation":
        return {"translation": source["translation"]}
    if fault.kind == "shifted" or (fault.kind == "duplicate" and fault.detail.startswith("the source's")):
        return {"transcript": source["transcript"], "translation": source["translation"]}
    return {}


def _write_clip(path: Path, rows: Sequence[Row], fault: Fault, audio_root: Path, seed: int) -> Row:
    """Writes the faulty clip at the rate of the row's own. Returns the columns that name it."""
    digest = hashlib.sha256(f"fault {seed} {rows[fault.index]['id']}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    sources = [resolve_audio_path(audio_root, rows[index]["audio_path"]) for index in fault.audio_of]
    rate_hz = soundfile.info(resolve_audio_path(audio_root, rows[fault.index]["audio_path"])).samplerate
    clips = [load_waveform(source, sample_rate_hz=rate_hz).astype(np.float64) for source in sources]
    clip = _faulty_clip(fault, clips, rate_hz, generator)
    encoded = io.BytesIO()
    soundfile.write(encoded, clip, rate_hz, format="WAV", subtype="PCM_16")
    if not path.is_file() or path.read_bytes() != encoded.getvalue():  # the same file is not audited again
        path.write_bytes(encoded.getvalue())
    return {
        "audio_path": path.resolve().relative_to(audio_root.resolve()).as_posix(),
        "duration": f"{len(clip) / rate_hz:.6f}",
    }


def _faulty_clip(
    fault: Fault, clips: Sequence[Samples], rate_hz: int, generator: np.random.Generator
) -> Samples:
    if fault.kind == "miscut":
        previous, own, following = clips
        return miscut(previous, own, following, rate_hz, early=fault.detail.endswith("early"))
    (clip,) = clips
    if fault.kind == "music":
        return music_instead(clip, rate_hz, generator)
    if fault.kind == "half_silent":
        first_half, faint = fault.detail.startswith("first"), fault.detail.endswith("noise")
        return half_silent(clip, generator, first_half=first_half, faint=faint)
    return another_copy(clip, rate_hz, generator, mp3=fault.detail.endswith("MP3"))
