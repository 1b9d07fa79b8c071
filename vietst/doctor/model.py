"""Does a model folder or repository hold a whole model that says what it said at training time?"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from vietst.doctor.card import check_card
from vietst.doctor.findings import Check, Finding, Status, run_checks
from vietst.doctor.prompts import check_prompts
from vietst.doctor.recorded_clip import check_clip
from vietst.doctor.tokenizer import check_tokenizer
from vietst.doctor.weights import check_weights
from vietst.errors import ModelError
from vietst.hub_access import HUB_ERRORS, connection_problem
from vietst.models import architectures
from vietst.models.architectures import Architecture
from vietst.models.loading import load_error
from vietst.quantities import size_in_words

NOT_DOWNLOADED = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "checkpoint-*/*")
"""What a model that was saved here does not need."""


def check_model(name_or_path: str, *, revision: str | None = None) -> Iterator[Finding]:
    """The findings of all checks, as they come; a repository is downloaded to an empty cache.

    Raises:
        ModelError: no such folder or repository, or no model of either architecture.
    """
    with tempfile.TemporaryDirectory(prefix="vietst-doctor-", ignore_cleanup_errors=True) as cache:
        folder = fetch(name_or_path, revision, Path(cache))
        is_download = folder != Path(name_or_path)
        if is_download:
            num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            found = f"{name_or_path}, {size_in_words(num_bytes)} to an empty cache"
            yield Finding(Status.OK, "download", found)
        architecture = architecture_of(folder, name_or_path)
        checks: dict[str, Check] = {
            "weights": partial(check_weights, folder, architecture),
            "tokenizer": partial(check_tokenizer, folder, architecture),
            "prompts": partial(check_prompts, folder, architecture),
            "card": partial(check_card, folder, is_download),
            "recorded clip": partial(check_clip, folder),
        }
        yield from run_checks(checks)


def fetch(name_or_path: str, revision: str | None, cache: Path) -> Path:
    """The folder, or the repository's files below `cache`.

    Raises:
        ModelError: no such folder or repository, or no way to it.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            where=f"model {name_or_path}",
            rule="a folder, or a repository on a Hub that can be asked",
            found="no such folder, and HF_HUB_OFFLINE is set",
            do="unset HF_HUB_OFFLINE: what lies in the cache would say nothing about what others download",
        )
    try:
        problem = connection_problem(huggingface_hub.hf_hub_url(name_or_path, "config.json"))
        if problem is not None:
            raise ModelError(
                where=f"model {name_or_path}",
                rule="a folder, or a repository on a Hub that answers",
                found=problem,
                do="check the network and HF_ENDPOINT",
            )
        return Path(
            huggingface_hub.snapshot_download(
                name_or_path, revision=revision, cache_dir=cache, ignore_patterns=list(NOT_DOWNLOADED)
            )
        )
    except HUB_ERRORS as error:
        raise load_error(name_or_path, "a model", error) from error


def architecture_of(folder: Path, name: str) -> Architecture:
    """The architecture that the folder's `config.json` names.

    Raises:
        ModelError: another kind of model, or none.
    """
    try:
        return architectures.ARCHITECTURES[architectures.architecture_of(str(folder))]
    except ModelError as error:
        # A download's folder says nothing to anybody.
        found = error.found.replace(str(folder), name)
        raise ModelError(where=f"model {name}", rule=error.rule, found=found, do=error.do) from error
