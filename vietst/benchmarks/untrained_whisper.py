"""A Whisper with random weights and a tokenizer of made-up words, for measuring speed without a download.

It is a large nano model, with the activation of published Whispers.
"""

import dataclasses
import random
from pathlib import Path
from typing import Final

from vietst.models.nano import NanoWhisperShape, ensure_nano_whisper

_SEED: Final = 1


@dataclasses.dataclass(frozen=True)
class WhisperShape:
    """Its window is 30 s, at 80 mel bins."""

    d_model: int
    num_layers: int
    """Of the encoder, and of the decoder."""
    num_heads: int
    vocab_size: int = 50_257
    """Pieces of text, as the multilingual Whispers have; special tokens come on top."""


WHISPER_TINY: Final = WhisperShape(d_model=384, num_layers=4, num_heads=6)
WHISPER_SMALL: Final = WhisperShape(d_model=768, num_layers=12, num_heads=12)
SHAPES: Final = {"tiny": WHISPER_TINY, "small": WHISPER_SMALL}


def make_untrained_whisper(folder: Path, shape: WhisperShape) -> Path:
    """Write model and processor, as `from_pretrained` reads them. Returns the folder."""
    from transformers import WhisperConfig

    letters = "abcdefghijklmnopqrstuvwxyz"
    generator = random.Random(_SEED)
    # words enough for as many pieces
    texts = [
        " ".join("".join(generator.choices(letters, k=6)) for _ in range(100))
        for _ in range(shape.vocab_size // 100)
    ]
    nano_shape = NanoWhisperShape(
        d_model=shape.d_model,
        attention_heads=shape.num_heads,
        encoder_layers=shape.num_layers,
        decoder_layers=shape.num_layers,
        ffn_dim=4 * shape.d_model,
        num_mel_bins=80,
        hop_length_samples=160,
        window_s=30,
        vocab_size=shape.vocab_size,
        max_target_positions=448,
        seed=_SEED,
    )
    ensure_nano_whisper(folder, nano_shape, texts)
    config = WhisperConfig.from_pretrained(folder)
    config.activation_function = "gelu"
    config.save_pretrained(folder)
    return folder
