"""Loading a folder or Hub id, for every architecture: is it there, is it the right kind, and if not, why.

transformers words most failures for its developers, and the reason stands in the exceptions behind the one it
raises. Here they become a `ModelError` that says what to do.
"""

import hashlib
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any, Final

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers.utils import ADAPTER_CONFIG_NAME, cached_file, find_adapter_config_file

from vietst.data.tables import file_digest
from vietst.errors import ModelError
from vietst.hub_access import CHECK_NAME, HUB_ERRORS, causes, connection_problem, refusal

# Unasked, transformers sends the name of every repository of .bin files to a public conversion service.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

LOAD_ERRORS: Final = (OSError, ValueError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError)
"""What `from_pretrained` raises for repositories and folders that it cannot use."""

_CONFIG_NAME: Final = "config.json"
_DECIDING_FILES: Final = (
    *("*config.json", "*.safetensors", "pytorch_model*.bin"),
    *("tok*", "vocab*", "merges*", "*.model", "*.spm"),
)
"""What a model's output comes from; a run folder holds more."""

_MAX_SHOWN_NAME: Final = 200
"""Characters of a name that somebody's file states."""

_TERMINAL_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")


def require_model_type(name_or_path: str, model_type: str) -> None:
    """Fetch the smallest file first, and look there whether the rest is worth fetching.

    Raises:
        ModelError: no such folder or repository, no way to it, or a model of another kind.
    """
    what = f"a {model_type} model"
    found_type = read_config(name_or_path, what).get("model_type")
    if found_type != model_type:
        raise ModelError(
            where=f"model {name_or_path}",
            rule=f"{what}, as its {_CONFIG_NAME} says",
            found=f"a {found_type} model" if found_type else f"no {_CONFIG_NAME} that names a model type",
            do=f"name a {model_type} checkpoint, or use the script and model.type of this one's architecture",
        )


def read_config(name_or_path: str, what: str, *, revision: str | None = None) -> dict[str, Any]:
    """What `config.json` of a folder or Hub id holds; empty where a folder has none, or it is no JSON object.

    Args:
        what: is looked for there, for the error's text.
        revision: branch, tag or commit of a repository on the Hub.

    Raises:
        ModelError: no such folder or repository, or no way to it; or an adapter (`refuse_adapter`).
    """
    _require_answer(name_or_path)
    try:
        refuse_adapter(name_or_path, revision)
        path = cached_file(name_or_path, _CONFIG_NAME, revision=revision)
        config = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, what, error) from error
    return config if isinstance(config, dict) else {}


def refuse_adapter(name_or_path: str, revision: str | None = None) -> None:
    """Refuse an adapter that is not merged into its base, also beside a whole model.

    There `from_pretrained` would put it into the model of a folder unasked, and instead of the model of a
    repository load the base that the adapter's file names: any other repository, or a folder of this machine.

    Raises:
        ModelError: it is one.
    """
    path = find_adapter_config_file(name_or_path, revision=revision)
    if path is not None:
        raise ModelError(
            where=f"model {name_or_path}",
            rule=f"a whole model, {_CONFIG_NAME} and all weights, without {ADAPTER_CONFIG_NAME}, by which "
            "other weights would be loaded",
            found=_described_adapter(Path(path)),
            do="merge it with peft, PeftModel.from_pretrained(base, adapter).merge_and_unload(), save that "
            "and the base's processor to a folder, and name it; what model.finetune=lora trains here is "
            "saved merged, in the run folder and every checkpoint. Of a whole model beside it, name a copy "
            f"without {ADAPTER_CONFIG_NAME}",
        )


def _described_adapter(path: Path) -> str:
    """What it is, and of which base. The file is anybody's: only a name on one line is shown of it."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    stated = config if isinstance(config, dict) else {}
    kind = "a LoRA adapter" if stated.get("peft_type") == "LORA" else "an adapter of peft"
    base = stated.get("base_model_name_or_path")
    is_name = isinstance(base, str) and base.isprintable() and 0 < len(base) <= _MAX_SHOWN_NAME
    of = f"of {base}" if is_name else f"whose base {ADAPTER_CONFIG_NAME} does not name"
    return f"{kind} {of}, not merged into it"


def model_version(name_or_path: str) -> str:
    """What tells a model's files from those of any other version of it: a commit of the Hub, or a digest.

    Raises:
        ModelError: as `read_config`.
    """
    read_config(name_or_path, "a model")  # with errors in words
    folder = Path(name_or_path)
    if not folder.is_dir():
        path = cached_file(name_or_path, _CONFIG_NAME)
        return f"commit:{Path(str(path)).parent.name}"
    files = sorted({path for pattern in _DECIDING_FILES for path in folder.glob(pattern)})
    digests = "".join(f"{path.name} {file_digest(path)}\n" for path in files)
    return f"sha256:{hashlib.sha256(digests.encode()).hexdigest()}"


def _require_answer(name_or_path: str) -> None:
    """Say at once that the Hub is out of reach; huggingface_hub would retry for minutes, file by file.

    A file that is called like a repository is not asked for on the Hub.
    """
    if Path(name_or_path).is_file():
        raise ModelError(
            where=f"model {name_or_path}",
            rule="a folder or Hub id that holds a model",
            found="a file",
            do="name the folder that holds config.json and the weights",
        )
    if (
        Path(name_or_path).is_dir()
        or huggingface_hub.constants.HF_HUB_OFFLINE
        or _is_cached(name_or_path)
        or not _is_repository_id(name_or_path)
    ):
        return
    problem = connection_problem(huggingface_hub.hf_hub_url(name_or_path, _CONFIG_NAME))
    if problem is not None:
        raise ModelError(
            where=f"model {name_or_path}",
            rule="a folder, a model in the local cache, or a Hub that answers",
            found=problem,
            do=f"check the network and HF_ENDPOINT, or download the model where there is a network and take "
            f"the cache along (HF_HOME); {CHECK_NAME}",
        )


def _is_repository_id(name: str) -> bool:
    try:
        huggingface_hub.utils.validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _is_cached(name: str) -> bool:
    return _is_repository_id(name) and isinstance(
        huggingface_hub.try_to_load_from_cache(name, _CONFIG_NAME), str
    )


_MODEL_FILES: Final = ("*.json", "*.txt", "*.model", "*.safetensors")
_PICKLED_WEIGHTS: Final = "pytorch_model*.bin"


def model_folder(name_or_path: str, revision: str | None = None) -> Path:
    """A folder as it is; of a Hub id what a model needs to run, downloaded into the local cache.

    Args:
        revision: branch, tag or commit of a repository on the Hub.

    Raises:
        ModelError: as `read_config`.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    _require_answer(name_or_path)
    try:
        folder = _download(name_or_path, revision, _MODEL_FILES)
        refuse_adapter(name_or_path, revision)
        if not any(folder.glob("*.safetensors")):
            folder = _download(name_or_path, revision, (*_MODEL_FILES, _PICKLED_WEIGHTS))
    except (*LOAD_ERRORS, *HUB_ERRORS) as error:
        raise load_error(name_or_path, "a model", error) from error
    return folder


def _download(repo_id: str, revision: str | None, files: tuple[str, ...]) -> Path:
    # Subfolders hold checkpoints, charts and other things for people.
    return Path(
        huggingface_hub.snapshot_download(
            repo_id, revision=revision, allow_patterns=list(files), ignore_patterns=["*/*"]
        )
    )


def require_all_weights(name_or_path: str, missing_keys: Any) -> None:
    """Refuse weights that lack parameters of the model, which transformers would fill with random numbers.

    Raises:
        ModelError: parameters are missing.
    """
    if missing_keys:
        missing = sorted(missing_keys)
        raise ModelError(
            where=f"model {name_or_path}",
            rule="weights for every parameter of the model",
            found=f"{len(missing)} without, such as {missing[0]}",
            do="load a checkpoint of the whole model (encoder and decoder), or download it again",
        )


def load_error(name_or_path: str, what: str, error: BaseException) -> ModelError:
    """The error that says why `what` could not be loaded from there."""
    found, do = _reason(error)
    return ModelError(
        where=f"model {name_or_path}", rule=f"a folder or Hub id that holds {what}", found=found, do=do
    )


def _reason(error: BaseException) -> tuple[str, str]:
    """What was found, and what to do about it."""
    refused = refusal(error)
    if refused is not None:
        return refused
    for cause in causes(error):
        if isinstance(cause, pickle.UnpicklingError):
            return (
                "a .bin file that is damaged or holds more than tensors; nothing in it was executed",
                "do not trust this file; use a repository with model.safetensors, or download it again",
            )
        if isinstance(cause, SafetensorError):
            return (
                f"a damaged model.safetensors ({cause})",
                "download it again; in a git clone, fetch the large files with: git lfs pull",
            )
        if isinstance(cause, json.JSONDecodeError):
            return f"a file that is not valid JSON ({cause})", "download it again"
        if "no file named model.safetensors" in str(cause):
            return f"no weights beside {_CONFIG_NAME}", "copy or download the whole folder again"
        if "ignore_mismatched_sizes" in str(cause):
            return (
                f"weights of other sizes than {_CONFIG_NAME} says, listed above",
                "use weights and config of the same checkpoint",
            )
    lines = _TERMINAL_STYLE.sub("", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__, CHECK_NAME
