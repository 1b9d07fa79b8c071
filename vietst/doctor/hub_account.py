"""The Hub: does it answer, and to whom. The token itself is never shown."""

from collections.abc import Iterator

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import LocalTokenNotFoundError

from vietst.doctor.findings import Finding, Status
from vietst.hub_access import HUB_ERRORS, connection_problem, hub_address, refusal

_SOME_FILE = ("openai/whisper-tiny", "config.json")


def check_hub() -> Iterator[Finding]:
    if constants.HF_HUB_OFFLINE:
        yield Finding(Status.OK, "Hub", "not asked, since HF_HUB_OFFLINE is set: models come from the cache")
        return
    problem = connection_problem(huggingface_hub.hf_hub_url(*_SOME_FILE))
    if problem is not None:
        yield Finding(
            Status.WARNING,
            "Hub",
            problem,
            "check the network and HF_ENDPOINT; a machine without a network works from the cache "
            "(HF_HUB_OFFLINE=1)",
        )
        return
    yield Finding(Status.OK, "Hub", f"{hub_address()} answers")
    yield check_login()


def check_login() -> Finding:
    try:
        account = huggingface_hub.whoami()
    except LocalTokenNotFoundError:
        return Finding(
            Status.WARNING,
            "Hub login",
            "none: public models can be read, private and gated ones cannot, and nothing can be pushed",
            "hf auth login, or set HF_TOKEN",
        )
    except HUB_ERRORS as error:
        found, do = refusal(error) or (
            str(error).splitlines()[0],
            "set HF_TOKEN to a valid token, or unset it",
        )
        return Finding(Status.MEND, "Hub login", found, do)
    role = account.get("auth", {}).get("accessToken", {}).get("role", "unknown")
    if role == "read":
        return Finding(
            Status.WARNING,
            "Hub login",
            f"{account['name']}, with a token that may only read",
            "to push models or features, make one that may write",
        )
    return Finding(Status.OK, "Hub login", f"{account['name']} (rights of the token: {role})")
