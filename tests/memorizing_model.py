"""A tiny Whisper that knows four clips by heart: what it says is real text, and another for each clip."""

from dataclasses import dataclass
from pathlib import Path

import torch

from tests.tiny_models import SHAPE, whisper_batch, whisper_model
from vietst.config import load_config
from vietst.constants import SAMPLE_RATE_HZ
from vietst.data.audio import load_waveform
from vietst.data.features import LOG_MEL_80_NANO
from vietst.data.tables import read_table
from vietst.evaluation.decode import feature_row
from vietst.models import nano
from vietst.models.model_record import record_of, write_model_record

_LEARNED_LOSS = 0.02
_MAX_STEPS = 600  # about 220 are enough


@dataclass(frozen=True)
class Clip:
    audio: Path
    transcript: str
    translation: str


def write_memorizing_model(folder: Path, corpus: Path) -> list[Clip]:
    """Train a model of both tasks for some seconds, and save it as training does.

    Args:
        corpus: from `make_tiny_corpus`.

    Returns:
        The clips, from four videos.
    """
    rows = read_table(corpus / "data" / "splits" / "train.csv")
    of_video = {row["video_id"]: row for row in rows}
    chosen = list(of_video.values())[:4]
    torch.manual_seed(0)
    processor = nano.make_whisper_processor(
        SHAPE, [row[column] for row in chosen for column in ("transcript", "translation")]
    )
    model = whisper_model(processor)
    batch = whisper_batch(processor, [_cached_row(index, row, corpus) for index, row in enumerate(chosen)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(_MAX_STEPS):
        loss = model(**batch).loss
        if loss.item() < _LEARNED_LOSS:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss.item() < _LEARNED_LOSS
    write_model_record(model, record_of(load_config("nano_whisper").config))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return [Clip(corpus / row["audio_path"], row["transcript"], row["translation"]) for row in chosen]


def _cached_row(index: int, row: dict[str, str], corpus: Path) -> dict[str, object]:
    waveform = load_waveform(corpus / row["audio_path"])
    of_clip = {"duration_s": len(waveform) / SAMPLE_RATE_HZ, "row_index": index}
    return row | feature_row(waveform, LOG_MEL_80_NANO) | of_clip
