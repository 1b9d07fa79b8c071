"""A small untrained encoder and decoder in the standard layouts, the E2E sibling of `nano.py`.

Two ordinary folders, as a wav2vec2 and an mBART-50 repository have them: `encoder` and `decoder`. The
assembly of real checkpoints puts them together, so everything behind them is the real code.
"""

import dataclasses
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from vietst.constants import SAMPLE_RATE_HZ
from vietst.models.made_folders import made_folder
from vietst.models.nano import CARD_NAME, texts_digest

if TYPE_CHECKING:
    from transformers import MBart50Tokenizer, MBartForConditionalGeneration, Wav2Vec2Model

ENCODER_FOLDER: Final = "encoder"
DECODER_FOLDER: Final = "decoder"

NANO_E2E_CODE_VERSION: Final = 1
"""Raise it with every change of this module that changes what is made: old folders are then made again."""


@dataclasses.dataclass(frozen=True)
class NanoE2EShape:
    """Sizes of an untrained wav2vec2 and mBART.

    The encoder hears a frame every 40 ms. `num_bands` are the filters that its first convolution starts from;
    `vocab_size` counts pieces, without special tokens and language codes. Where the widths differ, the two
    are joined by a projection.
    """

    encoder_width: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    num_bands: int
    decoder_width: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    vocab_size: int
    max_target_positions: int
    seed: int


def ensure_nano_e2e(folder: Path, shape: NanoE2EShape, texts: Sequence[str]) -> bool:
    """Make the untrained parts below `folder`, unless they are there, made from the same shape and texts.

    Args:
        texts: all training texts; the tokenizer's pieces are learned from them.

    Returns:
        Whether they were made now. The folder appears complete or not at all.

    Raises:
        ModelError: something else lies there.
    """
    from transformers import Wav2Vec2FeatureExtractor

    card = {
        "code_version": NANO_E2E_CODE_VERSION,
        "shape": dataclasses.asdict(shape),
        "texts_digest": texts_digest(texts),
    }
    card_path = folder / CARD_NAME
    if card_path.is_file() and json.loads(card_path.read_text(encoding="utf-8")) == card:
        return False
    otherwise = "choose another folder for both with model.encoder=…/encoder and model.decoder=…/decoder"
    with made_folder(folder, CARD_NAME, otherwise) as building:
        make_encoder(shape).save_pretrained(building / ENCODER_FOLDER)
        Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(building / ENCODER_FOLDER)
        tokenizer = make_tokenizer(texts, shape.vocab_size)
        tokenizer.save_pretrained(building / DECODER_FOLDER)
        make_decoder(shape, tokenizer).save_pretrained(building / DECODER_FOLDER)
        (building / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8", newline="\n")
    return True


# --- encoder -----------------------------------------------------------------------------------------


def make_encoder(shape: NanoE2EShape) -> "Wav2Vec2Model":
    """Random weights, drawn from the shape's seed, but for the first convolution: a filterbank."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    first_width = PHASES_PER_BAND * shape.num_bands
    config = Wav2Vec2Config(
        hidden_size=shape.encoder_width,
        num_hidden_layers=shape.encoder_layers,
        num_attention_heads=shape.encoder_attention_heads,
        intermediate_size=shape.encoder_ffn_dim,
        conv_dim=(first_width, shape.encoder_width, shape.encoder_width),
        conv_kernel=(WINDOW_SAMPLES, 3, 3),
        conv_stride=(HOP_SAMPLES, 2, 2),
        conv_bias=False,
        feat_extract_norm="group",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=16,
        feat_extract_activation="relu",  # exact GELU's backward in bf16 is slow on CPUs
        hidden_act="relu",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        vocab_size=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        model = Wav2Vec2Model(config)
    first = model.feature_extractor.conv_layers[0].conv
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(filterbank(shape.num_bands))[:, None])
    return model


WINDOW_SAMPLES: Final = 400
HOP_SAMPLES: Final = 160
"""25 ms windows every 10 ms, as log-mel features have."""

PHASES_PER_BAND: Final = 4
"""Cosine, sine, and both negated: the rectifier behind them then loses nothing."""


def filterbank(num_bands: int) -> np.ndarray:
    """Impulse responses of band-pass filters whose centres are equally spaced on the mel scale.

    Each is a windowed oscillation (a Gabor filter), in four phases a quarter apart; the sum over the phases
    of what a rectifier leaves of them follows the band's amplitude.

    Returns:
        float32 [PHASES_PER_BAND × num_bands, WINDOW_SAMPLES], each of unit energy.
    """
    edges_hz = _mel_to_hz(np.linspace(_hz_to_mel(60.0), _hz_to_mel(SAMPLE_RATE_HZ / 2), num_bands + 2))
    time_s = (np.arange(WINDOW_SAMPLES) - (WINDOW_SAMPLES - 1) / 2) / SAMPLE_RATE_HZ
    filters = []
    for low_hz, centre_hz, high_hz in zip(edges_hz, edges_hz[1:], edges_hz[2:], strict=False):
        # A Gaussian whose spectrum falls to half between the neighbours' centres; no wider than the window.
        half_width_hz = (high_hz - low_hz) / 4
        deviation_s = math.sqrt(2 * math.log(2)) / (2 * math.pi * half_width_hz)
        deviation_s = min(deviation_s, WINDOW_SAMPLES / SAMPLE_RATE_HZ / 5)
        envelope = np.exp(-0.5 * (time_s / deviation_s) ** 2)
        for phase in range(PHASES_PER_BAND):
            wave = envelope * np.cos(2 * np.pi * centre_hz * time_s + phase * np.pi / 2)
            filters.append(wave / np.linalg.norm(wave))
    return np.array(filters, dtype=np.float32)


def _hz_to_mel(frequency_hz: float) -> float:
    return 2595.0 * math.log10(1.0 + frequency_hz / 700.0)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


# --- decoder -----------------------------------------------------------------------------------------


def make_tokenizer(texts: Sequence[str], vocab_size: int) -> "MBart50Tokenizer":
    """About `vocab_size` pieces learned from the texts, mBART-50's special tokens and language codes.

    The pieces come from byte-pair encoding: SentencePiece's Unigram training finds too few in so little text.
    mBART's tokenizer cuts a text into the pieces of the greatest total score; with equal scores, into as few
    as possible.
    """
    import sentencepiece
    from transformers import MBart50Tokenizer

    with tempfile.TemporaryDirectory(prefix="vietst-nano-") as folder:
        prefix = str(Path(folder) / "pieces")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=prefix,
            vocab_size=vocab_size,
            model_type="bpe",
            character_coverage=1.0,
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
        )
        model = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    # SentencePiece's first three are its own special tokens; the tokenizer puts mBART's in their place.
    # A little less for later merges, so that equally short ways to cut are told apart.
    pieces = [(model.id_to_piece(index), -1.0 - index * 1e-6) for index in range(model.get_piece_size())]
    return MBart50Tokenizer(vocab=pieces, src_lang="vi_VN", tgt_lang="vi_VN")


def make_decoder(shape: NanoE2EShape, tokenizer: "MBart50Tokenizer") -> "MBartForConditionalGeneration":
    """A whole translation model of random weights, as mBART-50 repositories hold; its decoder is used."""
    import torch
    from transformers import MBartConfig, MBartForConditionalGeneration

    config = MBartConfig(
        vocab_size=len(tokenizer),
        d_model=shape.decoder_width,
        encoder_layers=shape.decoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.decoder_attention_heads,
        decoder_attention_heads=shape.decoder_attention_heads,
        encoder_ffn_dim=shape.decoder_ffn_dim,
        decoder_ffn_dim=shape.decoder_ffn_dim,
        max_position_embeddings=shape.max_target_positions,
        scale_embedding=True,
        activation_function="relu",
        dropout=0.0,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        return MBartForConditionalGeneration(config)
