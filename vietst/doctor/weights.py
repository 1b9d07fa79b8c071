"""The weights: all there, all finite, none that the model does not have."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import SpeechEncoderDecoderModel, WhisperForConditionalGeneration

from vietst.doctor.findings import Finding, Status
from vietst.models.architectures import Architecture
from vietst.models.loading import LOAD_ERRORS, load_error

DOWNLOAD_AGAIN = "save or push the model again; if this is a download, download it again"


def check_weights(folder: Path, architecture: Architecture) -> Iterator[Finding]:
    files = weight_files(folder)
    if not files:
        yield Finding(
            Status.MEND,
            "weights",
            "no model.safetensors",
            "copy or download the whole folder again; of weights in a .bin file, a pickle which may run code "
            "where it is loaded, save_pretrained makes one",
        )
        return
    num_values, kinds, not_finite = 0, set(), []
    try:
        for path in files:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    tensor = file.get_tensor(name)
                    num_values += tensor.numel()
                    kinds.add(str(tensor.dtype).removeprefix("torch."))
                    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                        not_finite.append(name)
    except LOAD_ERRORS as error:
        raise load_error(str(folder), "weights that can be read", error) from error
    if not_finite:
        yield Finding(
            Status.MEND,
            "weights",
            f"NaN or infinite values in {len(not_finite)} tensors, such as {not_finite[0]}",
            "publish an earlier checkpoint: this model says nothing any more",
        )
    else:
        yield Finding(
            Status.OK, "weights", f"{num_values / 1e6:.1f} M, all finite, {' and '.join(sorted(kinds))}"
        )
    yield check_keys(folder, architecture)


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the parts that an index names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return [folder / name for name in sorted(set(weight_map.values()))]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else []


def check_keys(folder: Path, architecture: Architecture) -> Finding:
    """Do the tensors' names and shapes follow from `config.json`, for transformers' own class?"""
    stock_class = (
        WhisperForConditionalGeneration if architecture.name == "whisper" else SpeechEncoderDecoderModel
    )
    try:
        _, loading = stock_class.from_pretrained(folder, output_loading_info=True)
    except LOAD_ERRORS as error:
        raise load_error(str(folder), "weights that fit config.json", error) from error
    wrong = [
        f"{len(loading[kind])} {kind.removesuffix('_keys')}, such as {sorted(loading[kind])[0]}"
        for kind in ("missing_keys", "unexpected_keys")
        if loading[kind]
    ]
    if wrong:
        return Finding(Status.MEND, "tensors", "; ".join(wrong), DOWNLOAD_AGAIN)
    return Finding(Status.OK, "tensors", f"those that {stock_class.__name__} has, by config.json")
