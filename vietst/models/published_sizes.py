"""Sizes of the published models that this project trains, as their `config.json` on the Hub states them.

Enough to build each model without its weights: the memory plan and the tests do so. What is not stated here
has transformers' default, which is the published value.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import MBartConfig, SpeechEncoderDecoderConfig, Wav2Vec2Config, WhisperConfig


def _whisper(width: int, layers: int, heads: int, **others: int) -> dict[str, Any]:
    return {
        "vocab_size": 51_865,
        "num_mel_bins": 80,
        "d_model": width,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * width,
        "decoder_ffn_dim": 4 * width,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        **others,
    }


WHISPER: Final[dict[str, dict[str, Any]]] = {
    # Table 1 of Radford et al. 2022 (arXiv 2212.04356); huggingface.co/<id>/blob/main/config.json
    "openai/whisper-tiny": _whisper(384, 4, 6),
    "openai/whisper-base": _whisper(512, 6, 8),
    "openai/whisper-small": _whisper(768, 12, 12),
    "openai/whisper-medium": _whisper(1024, 24, 16),
    # model card of large-v3: 128 mel bins, one more language
    "openai/whisper-large-v3": _whisper(1280, 32, 20, vocab_size=51_866, num_mel_bins=128),
}

WAV2VEC2: Final[dict[str, dict[str, Any]]] = {
    # BASE of Baevski et al. 2020 (arXiv 2006.11477); facebook/wav2vec2-base/blob/main/config.json
    "facebook/wav2vec2-base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "feat_extract_norm": "group",
        "do_stable_layer_norm": False,
        "conv_bias": False,
    },
    # LARGE of Conneau et al. 2020 (arXiv 2006.13979); facebook/wav2vec2-large-xlsr-53/blob/main/config.json
    "facebook/wav2vec2-large-xlsr-53": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
    },
}

MBART50: Final[dict[str, Any]] = {
    # Tang et al. 2020 (arXiv 2008.00401); facebook/mbart-large-50/blob/main/config.json
    "vocab_size": 250_054,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "max_position_embeddings": 1024,
    "scale_embedding": True,
}

NUM_TASK_TOKENS: Final = 2
"""Tokens that E2E adds to mBART-50's vocabulary."""

TRIMMED_VOCABULARY: Final = 25_000
"""Pieces that a trimmed vocabulary is filled up to: a tenth of mBART-50's, and 0.4 GB with AdamW where they
train (our judgement; not counted on mBART-50's own pieces). A corpus that alone needs more gets more."""


def whisper_config(name: str) -> "WhisperConfig":
    """The configuration of a published Whisper, by its Hub id."""
    from transformers import WhisperConfig

    return WhisperConfig(**WHISPER[name])


def wav2vec2_config(name: str) -> "Wav2Vec2Config":
    """The configuration of a published wav2vec2, by its Hub id."""
    from transformers import Wav2Vec2Config

    return Wav2Vec2Config(**WAV2VEC2[name])


def mbart50_config() -> "MBartConfig":
    """The configuration of mBART-50, encoder and decoder."""
    from transformers import MBartConfig

    return MBartConfig(**MBART50)


def e2e_config(encoder: str, vocab_size: int | None = None) -> "SpeechEncoderDecoderConfig":
    """A published wav2vec2 with mBART-50's decoder.

    Args:
        encoder: Hub id of the encoder.
        vocab_size: rows of the decoder's embedding; None: mBART-50's and the task tokens.
    """
    from transformers import SpeechEncoderDecoderConfig

    decoder = mbart50_config()
    decoder.vocab_size = vocab_size or decoder.vocab_size + NUM_TASK_TOKENS
    return SpeechEncoderDecoderConfig.from_encoder_decoder_configs(wav2vec2_config(encoder), decoder)
