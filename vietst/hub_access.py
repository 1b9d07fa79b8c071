"""The Hugging Face Hub, for models and for features: is it there, is a model at hand, why did it refuse.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` mean what they mean to huggingface_hub. Tokens are
never read here, and so never written anywhere.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal
from urllib.error import URLError
from urllib.request import Request, urlopen

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from vietst.errors import VietstError, without_credentials

HUB_ERRORS: Final = (OSError, ValueError, httpx.HTTPError)
"""What huggingface_hub raises where the Hub refuses, a name is none, or there is no connection."""

UPLOAD_ERRORS: Final = (*HUB_ERRORS, RuntimeError)
"""Those of an upload: that a file did not go up is a RuntimeError, and why stands behind it."""

CHECK_NAME: Final = "check the spelling; a local folder is named by its path"

_ANSWER_TIMEOUT_S: Final = 10.0

_NOT_NOW: Final = (408, 429, 500, 502, 503, 504)
"""HTTP statuses of a Hub that is busy or broken for a while."""


def hub_address() -> str:
    """The Hub's address, as it may be shown: `HF_ENDPOINT` without a user and password in it."""
    return without_credentials(constants.ENDPOINT)


def connection_problem(url: str) -> str | None:
    """Why the Hub is out of reach; None if it answers, even with a refusal.

    huggingface_hub would retry for minutes, file by file.
    """
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=_ANSWER_TIMEOUT_S)
    except HfHubHTTPError:
        return None
    except httpx.HTTPError as error:
        return f"{hub_address()} does not answer ({error})"
    return None


def refusal(error: BaseException) -> tuple[str, str] | None:
    """What the Hub, or its client, found wrong, and what to do about it; None where it was something else."""
    hub = hub_address()
    for cause in causes(error):
        if isinstance(cause, GatedRepoError):
            return (
                f"a gated repository: {hub} gives its files only to those whom its authors admitted",
                "ask for access on its page, and set HF_TOKEN to a token of the admitted account",
            )
        if isinstance(cause, HFValidationError):
            return "no such folder, and no name of the form owner/name, as the Hub has them", CHECK_NAME
        if isinstance(cause, RepositoryNotFoundError):
            return (
                f"{hub} knows no such repository, or it is a private one",
                f"{CHECK_NAME}; for a private repository set HF_TOKEN",
            )
        if isinstance(cause, RevisionNotFoundError):
            return "the repository has no such branch, tag or commit", "check the spelling"
        if isinstance(cause, LocalTokenNotFoundError):
            return "no token", "set HF_TOKEN to a token that may write, or log in: hf auth login"
        if isinstance(cause, HfHubHTTPError) and (answer := _answer_of(cause)) is not None:
            return answer
        if isinstance(cause, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
            return _not_cached(hub)
        if _has_no_xet(cause):
            return f"{hub} does not take files through xet", "set HF_HUB_DISABLE_XET=1"
        if isinstance(cause, (httpx.TransportError, ConnectionError, TimeoutError)):
            return (
                f"{hub} does not answer ({cause})",
                "check the network and HF_ENDPOINT; what was done so far is kept",
            )
    return None


def _answer_of(error: HfHubHTTPError) -> tuple[str, str] | None:
    hub, status = hub_address(), error.response.status_code
    said = f": {error.server_message}" if error.server_message else ""
    if status in (402, 413, 507) or (status == 403 and re.search(r"storage|quota", said, re.IGNORECASE)):
        return (
            f"{hub} has no room for it (HTTP {status}{said})",
            "make room in the account that owns the repository",
        )
    if status in (401, 403):
        return (
            f"{hub} refuses the token{said}",
            "set HF_TOKEN to a valid token (to publish: one that may write there), or unset it for what "
            "is public",
        )
    if status >= 429:
        return f"{hub} answers with HTTP {status}", "try again later"
    return None


def _has_no_xet(error: BaseException) -> bool:
    # hf_xet has one exception for all that goes wrong on its way.
    return isinstance(error, ConnectionError) and "404" in str(error) and "/xet-write-token/" in str(error)


def is_away(error: BaseException) -> bool:
    """Whether the Hub did not answer, or not now: the same may succeed later."""
    return not any(map(_has_no_xet, causes(error))) and any(
        isinstance(cause, (httpx.TransportError, ConnectionError, TimeoutError))
        or (isinstance(cause, HfHubHTTPError) and cause.response.status_code in _NOT_NOW)
        for cause in causes(error)
    )


def open_repository(
    repo_id: str,
    *,
    kind: Literal["model", "dataset"],
    private: bool,
    refused: Callable[[str, str], VietstError],
) -> tuple[str, list[str]]:
    """A repository to publish to, made if it is not there.

    Args:
        repo_id: OWNER/NAME, or NAME in the account of the token.
        private: who sees it; one that is there has to be so already.
        refused: makes the error from what was found and what to do.

    Returns:
        The full name; the paths of the files on its main branch.

    Raises:
        VietstError: `refused`'s. The Hub's own exceptions pass through.
    """
    api = huggingface_hub.HfApi()
    try:
        huggingface_hub.utils.validate_repo_id(repo_id)
    except HFValidationError as error:
        raise refused(str(error), "choose a name of the form owner/name, as the Hub has them") from None
    # Without an answer in good time its exception passes; a refusal is said below.
    with contextlib.suppress(HfHubHTTPError):
        url = huggingface_hub.hf_hub_url(repo_id, "README.md", repo_type=kind)
        huggingface_hub.get_hf_file_metadata(url, timeout=_ANSWER_TIMEOUT_S)
    owner = api.whoami()["name"]
    repo_id = repo_id if "/" in repo_id else f"{owner}/{repo_id}"
    try:
        info = api.model_info(repo_id) if kind == "model" else api.dataset_info(repo_id)
    except RepositoryNotFoundError:
        # Two that make it at the same moment share it.
        api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
        return repo_id, []
    if info.private != private:
        raise refused(
            "a private repository, and what is published is to be public"
            if info.private
            else "a public repository, and what is published is to be private",
            "say what is meant, or change the visibility in the repository's settings",
        )
    return repo_id, [sibling.rfilename for sibling in info.siblings or []]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _not_cached(hub: str) -> tuple[str, str]:
    if constants.HF_HUB_OFFLINE:
        return (
            "not in the local cache, and HF_HUB_OFFLINE is set",
            "download it where there is a network (the same command without HF_HUB_OFFLINE) and take the "
            f"cache along (HF_HOME); {CHECK_NAME}",
        )
    return f"not in the local cache, and {hub} does not answer", "check the network and HF_ENDPOINT"


def base_model_at_hand(model_name: str, *, timeout_s: float = 5.0) -> tuple[bool, str]:
    """Whether a base model can be loaded here: a folder, in the Hub cache, or from a Hub that answers.

    Honours `HF_HUB_OFFLINE`, `HF_ENDPOINT` and `HF_HOME` as huggingface_hub does. Returns the answer and its
    reason, in words for the user.
    """
    if Path(model_name).is_dir():
        return True, f"{model_name} is a folder"
    weights = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")
    if isinstance(huggingface_hub.try_to_load_from_cache(model_name, "config.json"), str) and any(
        isinstance(huggingface_hub.try_to_load_from_cache(model_name, file), str) for file in weights
    ):
        return True, f"{model_name} is in the local cache"
    if constants.HF_HUB_OFFLINE:
        return False, f"{model_name} is not in the local cache, and HF_HUB_OFFLINE is set"
    return _answers(f"{constants.ENDPOINT}/{model_name}/resolve/main/config.json", timeout_s)


def _answers(url: str, timeout_s: float) -> tuple[bool, str]:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=timeout_s):
            return True, f"{without_credentials(url)} answers"
    except (URLError, OSError, ValueError) as error:
        return False, f"{without_credentials(url)} does not answer ({getattr(error, 'reason', error)})"
