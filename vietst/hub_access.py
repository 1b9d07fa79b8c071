"""The Hugging Face Hub, for models and for features: does it answer, and why did it refuse.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` mean what they mean to huggingface_hub. Tokens are
never read here, and so never written anywhere.
"""

from collections.abc import Iterator
from typing import Final

import huggingface_hub
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

HUB_ERRORS: Final = (OSError, ValueError, httpx.HTTPError)
"""What huggingface_hub raises where the Hub refuses, a name is none, or there is no connection."""

CHECK_NAME: Final = "check the spelling; a local folder is named by its path"

_ANSWER_TIMEOUT_S: Final = 10.0


def connection_problem(url: str) -> str | None:
    """Why the Hub is out of reach; None if it answers, even with a refusal.

    huggingface_hub would retry for minutes, file by file.
    """
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=_ANSWER_TIMEOUT_S)
    except HfHubHTTPError:
        return None
    except httpx.HTTPError as error:
        return f"{huggingface_hub.constants.ENDPOINT} does not answer ({error})"
    return None


def refusal(error: BaseException) -> tuple[str, str] | None:
    """What the Hub, or its client, found wrong, and what to do about it; None where it was something else."""
    hub = huggingface_hub.constants.ENDPOINT
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
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403):
            return (
                f"{hub} refuses the token",
                "set HF_TOKEN to a valid token (to publish: one that may write there), or unset it for what "
                "is public",
            )
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code >= 429:
            return f"{hub} answers with HTTP {cause.response.status_code}", "try again later"
        if isinstance(cause, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
            return _not_cached(hub)
        if isinstance(cause, httpx.TransportError):
            return f"{hub} does not answer ({cause})", "check the network; what was done so far is kept"
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _not_cached(hub: str) -> tuple[str, str]:
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return (
            "not in the local cache, and HF_HUB_OFFLINE is set",
            "download it where there is a network (the same command without HF_HUB_OFFLINE) and take the "
            f"cache along (HF_HOME); {CHECK_NAME}",
        )
    return f"not in the local cache, and {hub} does not answer", "check the network and HF_ENDPOINT"
