"""Whisper repositories as openai publishes them on the Hub, with random weights of small width.

Vocabulary, mel bins, positions, file names and what stands in the files are the real ones; only the widths
and layers in `config.json` are smaller, and the weights follow them. The tokenizers are the real ones, from
`shared/data`. Checked against copies of openai/whisper-base and large-v3 that are public elsewhere.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS, NON_SPEECH_TOKENS_MULTI

SMALL_SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_hidden_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
"""All that differs from the real `config.json`."""

SPACE_ID = 220
"""The token of a single space, which no transcript begins with."""


@dataclasses.dataclass(frozen=True)
class PublishedWhisper:
    """What distinguishes the published repositories from each other."""

    repo_id: str
    tokenizer: str  # folder of shared/data
    num_mel_bins: int = 80
    dtype: torch.dtype = torch.float32
    alignment_heads: tuple[tuple[int, int], ...] = ()  # of the real, deeper model
    is_multilingual: bool = True
    is_recent: bool = False  # large-v3 was published later, with fewer and other settings in its files


TINY = PublishedWhisper(
    "openai/whisper-tiny",
    "whisper_tokenizer",
    alignment_heads=((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)),
)
MEDIUM = PublishedWhisper(
    "openai/whisper-medium",
    "whisper_tokenizer",
    alignment_heads=((13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)),
)
LARGE_V3 = PublishedWhisper(
    "openai/whisper-large-v3",
    "whisper_tokenizer_v3",
    num_mel_bins=128,
    dtype=torch.float16,
    alignment_heads=(
        (7, 0),
        (10, 17),
        (12, 18),
        (13, 12),
        (16, 1),
        (17, 14),
        (19, 11),
        (21, 4),
        (24, 1),
        (25, 6),
    ),
    is_recent=True,
)
TINY_ENGLISH = PublishedWhisper("openai/whisper-tiny.en", "whisper_tokenizer", is_multilingual=False)


def save_safetensors(weights: dict[str, torch.Tensor], folder: Path) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def save_bin(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """The older format, a zipped pickle, as many checkpoints have nothing else."""
    torch.save(weights, folder / "pytorch_model.bin")


def write_whisper_repository(
    folder: Path,
    published: PublishedWhisper,
    shared_data: Path,
    save_weights: Callable[[dict[str, torch.Tensor], Path], None] = save_safetensors,
) -> Path:
    """Write all files of one repository; returns the folder."""
    folder.mkdir(parents=True)
    tokenizer = json.loads((shared_data / published.tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    if not published.is_multilingual:
        _make_english_only(tokenizer)
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    _write_tokenizer(folder, tokenizer)
    shutil.copy(shared_data / published.tokenizer / "normalizer.json", folder)
    config = _config(published, ids)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", _generation_config(published, ids))
    _write_json(folder / "preprocessor_config.json", _preprocessor_config(published))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    save_weights(_random_weights(config, published.dtype, ids["<|0.00|>"]), folder)
    return folder


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --- model -------------------------------------------------------------------------------------------


def _config(published: PublishedWhisper, ids: dict[str, int]) -> dict[str, Any]:
    end_id = ids["<|endoftext|>"]
    config: dict[str, Any] = {
        "_name_or_path": published.repo_id,
        "activation_dropout": 0.0,
        "activation_function": "gelu",
        "architectures": ["WhisperForConditionalGeneration"],
        "attention_dropout": 0.0,
        "begin_suppress_tokens": [SPACE_ID, end_id],
        "bos_token_id": end_id,
        "decoder_layerdrop": 0.0,
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "eos_token_id": end_id,
        "init_std": 0.02,
        "is_encoder_decoder": True,
        "max_length": 448,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "model_type": "whisper",
        "num_mel_bins": published.num_mel_bins,
        "pad_token_id": end_id,
        "scale_embedding": False,
        "torch_dtype": str(published.dtype).removeprefix("torch."),
        "use_cache": True,
        "vocab_size": max(ids.values()) + 1,
        **SMALL_SIZES,
    }
    if published.is_recent:
        return config | {
            "apply_spec_augment": False,
            "classifier_proj_size": 256,
            "mask_feature_length": 10,
            "mask_feature_min_masks": 0,
            "mask_feature_prob": 0.0,
            "mask_time_length": 10,
            "mask_time_min_masks": 2,
            "mask_time_prob": 0.05,
            "median_filter_width": 7,
            "pad_token_id": end_id - 1,
            "transformers_version": "4.36.0.dev0",
            "use_weighted_layer_sum": False,
        }
    prompt = ["<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    return config | {
        "forced_decoder_ids": [
            [position, ids[token]]
            for position, token in enumerate(prompt if published.is_multilingual else prompt[-1:], start=1)
        ],
        "suppress_tokens": _suppressed(published),
        "transformers_version": "4.27.0.dev0",
    }


def _suppressed(published: PublishedWhisper) -> list[int]:
    return NON_SPEECH_TOKENS_MULTI if published.is_multilingual else NON_SPEECH_TOKENS


def _generation_config(published: PublishedWhisper, ids: dict[str, int]) -> dict[str, Any]:
    end_id = ids["<|endoftext|>"]
    generation: dict[str, Any] = {
        "alignment_heads": published.alignment_heads,
        "begin_suppress_tokens": [SPACE_ID, end_id],
        "bos_token_id": end_id,
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": end_id,
        "forced_decoder_ids": [[1, None], [2, ids["<|transcribe|>"]]],
        "is_multilingual": published.is_multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "pad_token_id": end_id,
        "prev_sot_token_id": ids["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": _suppressed(published),
        "transformers_version": "4.31.0.dev0",
    }
    if not published.is_multilingual:
        return generation | {"forced_decoder_ids": [[1, ids["<|notimestamps|>"]]]}
    start, end = ids["<|en|>"], ids["<|translate|>"]
    return generation | {
        "lang_to_id": {token: token_id for token, token_id in sorted(ids.items()) if start <= token_id < end},
        "task_to_id": {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
    }


def _random_weights(
    config: dict[str, Any], dtype: torch.dtype, first_timestamp_id: int
) -> dict[str, torch.Tensor]:
    """Drawn with a fixed seed, so wide that the small model's output depends on its audio and its prompt.

    The output projection is the embedding, and stored once. As a real model that was told `<|notimestamps|>`,
    this one does not come to write timestamps: their logits are zero, and the highest is not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(WhisperConfig(**config | {"init_std": 0.5}))
    weights = model.state_dict()
    weights["model.decoder.embed_tokens.weight"][first_timestamp_id:] = 0.0
    return {
        name: tensor.to(dtype).contiguous() for name, tensor in weights.items() if name != "proj_out.weight"
    }


# --- feature extractor and tokenizer -----------------------------------------------------------------


def _preprocessor_config(published: PublishedWhisper) -> dict[str, Any]:
    config: dict[str, Any] = {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": published.num_mel_bins,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16000,
    }
    if not published.is_recent:
        # Written out, [mel bins, frequencies]: the other way round than the class holds them today.
        filters = WhisperFeatureExtractor(feature_size=published.num_mel_bins).mel_filters
        config["mel_filters"] = filters.T.tolist()
    return config


def _write_tokenizer(folder: Path, tokenizer: dict[str, Any]) -> None:
    """One tokenizer in all the files that a repository holds it in."""
    _write_json(folder / "tokenizer.json", tokenizer)
    _write_json(folder / "vocab.json", tokenizer["model"]["vocab"])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    added = tokenizer["added_tokens"]
    vocabulary = tokenizer["model"]["vocab"]
    _write_json(
        folder / "added_tokens.json",
        {token["content"]: token["id"] for token in added if token["content"] not in vocabulary},
    )
    end_token = "<|endoftext|>"
    special_tokens = {
        "additional_special_tokens": [token["content"] for token in added[1:] if token["special"]],
        "bos_token": end_token,
        "eos_token": end_token,
        "pad_token": end_token,
        "unk_token": end_token,
    }
    _write_json(folder / "special_tokens_map.json", special_tokens)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(token["id"]): {key: value for key, value in token.items() if key != "id"}
                for token in added
            },
            **special_tokens,
            "clean_up_tokenization_spaces": True,
            "errors": "replace",
            "model_max_length": 1024,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
            "tokenizer_class": "WhisperTokenizer",
        },
    )


def _make_english_only(tokenizer: dict[str, Any]) -> None:
    """The ids of the English-only checkpoints: one piece fewer, so that all special tokens move down by one.

    The language and task tokens are there too, though these models never saw them.
    """
    vocabulary = tokenizer["model"]["vocab"]
    del vocabulary[""]
    vocabulary["<|endoftext|>"] -= 1
    for token in tokenizer["added_tokens"]:
        token["id"] -= 1
    special = tokenizer["post_processor"]["special_tokens"]["<|endoftext|>"]
    special["ids"] = [token_id - 1 for token_id in special["ids"]]
