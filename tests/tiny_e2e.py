"""Tiny untrained E2E models and batches for tests, made by the same code as the nano models."""

from pathlib import Path

import torch
from transformers import (
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Processor,
)

from tests.tiny_models import TEXTS, tone
from vietst.constants import TASKS
from vietst.data.ctc_units import CharacterTable
from vietst.data.features import WAVEFORM_16K, extract
from vietst.data.packed_clips import padded_batch
from vietst.models import e2e_assembly, nano_e2e
from vietst.models.e2e import MultitaskE2E
from vietst.models.e2e_inputs import E2ECollator

ENCODER_WIDTH = 32


def write_encoder(folder: Path, norm: str = "group", **settings: object) -> Path:
    """A repository like facebook/wav2vec2-base (norm "group") or XLSR-53 ("layer"), without tokenizer."""
    is_layer = norm == "layer"
    config = Wav2Vec2Config(
        **{
            "hidden_size": ENCODER_WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "conv_dim": [16] * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 2,
            "codevector_dim": 8,
            "proj_codevector_dim": 8,
            "num_codevectors_per_group": 4,
            "feat_extract_norm": norm,
            "do_stable_layer_norm": is_layer,
            "conv_bias": is_layer,
            "vocab_size": 32,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "feat_proj_dropout": 0.0,
            **settings,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        Wav2Vec2ForPreTraining(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=is_layer).save_pretrained(folder)
    return folder


def mbart_tokenizer() -> MBart50Tokenizer:
    return nano_e2e.make_tokenizer([text for pair in TEXTS for text in pair], 120)


def write_decoder(folder: Path, width: int = 48, **settings: object) -> Path:
    """A repository like facebook/mbart-large-50."""
    tokenizer = mbart_tokenizer()
    config = MBartConfig(
        **{
            "vocab_size": len(tokenizer),
            "d_model": width,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "max_position_embeddings": 64,
            "scale_embedding": True,
            "dropout": 0.0,
            "decoder_start_token_id": 2,
            **settings,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        MBartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_base(folder: Path, norm: str = "group", width: int = 48, length_adaptor: bool = False) -> Path:
    """An assembled base model, with its parts beside it."""
    encoder = write_encoder(folder / "encoder", norm)
    decoder = write_decoder(folder / "decoder", width)
    settings = e2e_assembly.AssemblySettings(length_adaptor=length_adaptor)
    e2e_assembly.ensure_e2e_base(folder / "base", str(encoder), str(decoder), settings)
    return folder / "base"


def waveform_rows(num_rows: int = 4, seed: int = 0) -> list[dict[str, object]]:
    """Rows as the waveform cache holds them, of made-up audio of different lengths."""
    rows = []
    for index in range(num_rows):
        transcript, translation = TEXTS[index % len(TEXTS)]
        duration_s = 0.6 + 0.37 * index % 1.3
        features = extract(tone(duration_s, seed + index), WAVEFORM_16K)
        rows.append(
            {
                "id": f"utterance-{index}",
                "audio_path": f"audio/{index}.wav",
                "video_id": f"video-{index % 2}",
                "transcript": transcript,
                "translation": translation,
                "duration_s": duration_s,
                "features": features.values.astype("<f2").tobytes(),
                "num_frames": len(features.values),
                "pad_value": 0.0,
                "row_index": index,
            }
        )
    return rows


def e2e_batch(
    processor: Wav2Vec2Processor,
    rows: list[dict[str, object]],
    tasks: tuple[str, ...] = TASKS,
    characters: CharacterTable | None = None,
) -> dict[str, torch.Tensor]:
    """A collated batch without the keys that are not for the model."""
    batch = padded_batch(E2ECollator(processor, WAVEFORM_16K, tasks, "vi", characters)(rows))
    return {key: value for key, value in batch.items() if key not in ("row_index", "duration_s")}


def parameter_group(name: str) -> str:
    """Which part of a `MultitaskE2E` a parameter belongs to."""
    if name.startswith("encoder.adapter."):
        return "length adaptor"
    if name.startswith("encoder.feature_extractor."):
        return "feature encoder"
    if name.startswith("encoder."):
        return "encoder"
    return {"decoder": "decoder", "enc_to_dec_proj": "projection", "ctc_head": "ctc head"}[
        name.partition(".")[0]
    ]


def num_frames_of(model: MultitaskE2E, row: dict[str, object]) -> int:
    """Frames that the encoder gives a cached row, before the length adaptor."""
    return int(
        model.encoder._get_feat_extract_output_lengths(torch.tensor(row["num_frames"]), add_adapter=False)
    )
