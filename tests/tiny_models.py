"""Tiny untrained models and batches for tests, made by the same code as the nano models."""

import numpy as np
import torch
from transformers import WhisperProcessor

from vietst.data.ctc_units import CharacterTable
from vietst.data.features import LOG_MEL_80_NANO, extract
from vietst.data.packed_clips import padded_batch
from vietst.models import nano
from vietst.models.multitask import LossWeights
from vietst.models.whisper import MultitaskWhisper
from vietst.models.whisper_inputs import WhisperCollator

TEXTS = [
    ("mình sẽ fix cái bug này", "mình sẽ sửa cái lỗi này"),
    ("cuộc meeting dời sang thứ hai", "cuộc họp dời sang thứ hai"),
    ("team chưa xong deadline hôm nay nên rất lo", "nhóm chưa xong hạn chót hôm nay"),
    ("ok", "được rồi, cảm ơn các bạn rất nhiều nhé"),
]

SHAPE = nano.NanoWhisperShape(
    d_model=32,
    attention_heads=2,
    encoder_layers=2,
    decoder_layers=2,
    ffn_dim=64,
    num_mel_bins=80,
    hop_length_samples=320,
    window_s=4,
    vocab_size=320,
    max_target_positions=64,
    seed=0,
)


def tone(duration_s: float, seed: int) -> np.ndarray:
    """A noisy gliding tone, float32 [num_samples] at 16 kHz."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * 16_000)) / 16_000
    return (
        0.1 * np.sin(2 * np.pi * (150 + 40 * time_s) * time_s) + 0.01 * rng.standard_normal(len(time_s))
    ).astype(np.float32)


def whisper_processor() -> WhisperProcessor:
    return nano.make_whisper_processor(SHAPE, [text for pair in TEXTS for text in pair])


def whisper_model(processor: WhisperProcessor, **settings: object) -> MultitaskWhisper:
    """A tiny `MultitaskWhisper`: dropout and SpecAugment off."""
    stock = nano.make_whisper_model(SHAPE, processor.tokenizer)
    for key, value in settings.items():
        setattr(stock.config, key, value)
    model = MultitaskWhisper(stock.config)
    model.load_state_dict(stock.state_dict())
    model.generation_config = stock.generation_config
    model.model.encoder.embed_positions.requires_grad_(False)
    model.loss_weights = LossWeights()
    return model


def cached_rows(num_rows: int = 4, seed: int = 0) -> list[dict[str, object]]:
    """Rows as the nano feature cache holds them, of made-up audio."""
    rows = []
    for index in range(num_rows):
        transcript, translation = TEXTS[index % len(TEXTS)]
        duration_s = 0.8 + 0.55 * index % 2.9
        features = extract(tone(duration_s, seed + index), LOG_MEL_80_NANO)
        rows.append(
            {
                "id": f"utterance-{index}",
                "audio_path": f"audio/{index}.wav",
                "video_id": f"video-{index % 2}",
                "transcript": transcript,
                "translation": translation,
                "duration_s": duration_s,
                "features": features.values.astype("<f2").tobytes(),
                "num_frames": features.values.shape[0],
                "pad_value": features.pad_value,
                "row_index": index,
            }
        )
    return rows


def whisper_batch(
    processor: WhisperProcessor,
    rows: list[dict[str, object]],
    tasks: tuple[str, ...] = ("transcribe", "translate"),
    characters: CharacterTable | None = None,
) -> dict[str, torch.Tensor]:
    """A collated batch without the keys that are not for the model."""
    batch = padded_batch(WhisperCollator(processor, LOG_MEL_80_NANO, tasks, "vi", characters)(rows))
    return {key: value for key, value in batch.items() if key not in ("row_index", "duration_s")}
