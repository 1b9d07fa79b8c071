"""Pushing a model to a repository of the Hub: in one commit, with what changed alone.

What a broken push has uploaded already, the next one does not send again; a reader never finds half a model.
`HF_ENDPOINT` names another Hub than huggingface.co.
"""

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from huggingface_hub.errors import RevisionNotFoundError

from vietst.config_schema import HubSection
from vietst.errors import HubError, VietstError
from vietst.hub.privacy import refuse_private_text
from vietst.hub.published_record import TRAIN_RESULTS, TRAINER_STATE, read_record
from vietst.hub.release import is_published, make_release
from vietst.hub_access import UPLOAD_ERRORS, hub_address, is_away, open_repository, refusal
from vietst.quantities import size_in_words
from vietst.runtime import get_logger

_HUBS_OWN_FILES: Final = (".gitattributes", "README.md", "LICENSE")
"""What a new repository may hold before anything was pushed."""

logger = get_logger(__name__)


class HubAwayError(HubError):
    """The Hub did not answer, or not now; the same push may succeed later."""


def require_repository(hub: HubSection) -> str:
    """Make the repository and its branch if they are not there, and see whether the token may write there.

    Returns:
        The full name, OWNER/NAME.

    Raises:
        HubError: no way to the Hub, no right to write there, or a repository that holds other things or is
            seen by others than was asked for.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    assert hub.repo_id is not None  # a rule of the configuration

    def refused(found: str, do: str) -> HubError:
        return _refused(hub, found, do)

    def ask() -> str:
        assert hub.repo_id is not None
        repo_id, files = open_repository(hub.repo_id, kind="model", private=hub.private, refused=refused)
        api = HfApi()
        if hub.revision is not None:
            with contextlib.suppress(RevisionNotFoundError):  # a new branch begins as the main one is
                files = api.list_repo_files(repo_id, revision=hub.revision)
        _refuse_other_content(hub, files)
        if hub.revision is not None:
            api.create_branch(repo_id, branch=hub.revision, exist_ok=True)
        # The Hub tells how a file would be uploaded only to those who may; a small one is not sent by this.
        api.preupload_lfs_files(repo_id, [CommitOperationAdd("README.md", b"-")], revision=hub.revision)
        return repo_id

    return _asked(hub, ask)


def publish_model(
    model_dir: Path, hub: HubSection, *, work_dir: Path | None = None, dry_run: bool = False
) -> str | None:
    """Push a model folder: a run's, one of its checkpoints', or a snapshot's.

    What breaks a rule, in the model card too, is refused before anything is sent.

    Args:
        work_dir: where files are written before they go up; None: where the system has such things.
        dry_run: say what would go up, and ask no Hub.

    Returns:
        Address of the model's page; None after a dry run.

    Raises:
        HubError: nothing that can be published, or a Hub that refuses.
    """
    from huggingface_hub import HfApi

    repo_id = hub.repo_id or model_dir.resolve().name
    if "/" not in repo_id:
        owner = "OWNER" if dry_run else _asked(hub, lambda: str(HfApi().whoami()["name"]))
        repo_id = f"{owner}/{repo_id}"
    with tempfile.TemporaryDirectory(prefix="release-", dir=work_dir) as work:
        release = make_release(model_dir, Path(work), repo_id, hub)
        refuse_private_text(release)
        _say_what_goes_up(release, each=dry_run)
        if dry_run:
            return None
        require_repository(hub)
        return _asked(hub, lambda: _commit(repo_id, hub.revision, release, _title(model_dir)))


def _say_what_goes_up(release: Mapping[str, Path], *, each: bool) -> None:
    sizes = {path: file.stat().st_size for path, file in release.items()}
    for path, num_bytes in sizes.items() if each else ():
        logger.info("%12s  %s", size_in_words(num_bytes), path)
    logger.info(
        "%d files, %s; what is there already is not sent again",
        *(len(sizes), size_in_words(sum(sizes.values()))),
    )


def _commit(repo_id: str, revision: str | None, release: Mapping[str, Path], title: str) -> str:
    """One commit with all files, that also drops those of ours that the model no longer has."""
    import huggingface_hub
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = huggingface_hub.HfApi()
    before = api.list_repo_files(repo_id, revision=revision)
    stale = [path for path in before if is_published(path) and path not in release]
    commit = api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(path, file) for path, file in release.items()),
            *(CommitOperationDelete(path) for path in stale),
        ],
        commit_message=title,
        revision=revision,
    )
    address = f"{hub_address()}/{repo_id}"
    logger.info("commit %s", commit.oid)
    return f"{address}/tree/{revision}" if revision else address


def _title(model_dir: Path) -> str:
    if (model_dir / TRAIN_RESULTS).is_file():
        return "Final model"
    path = model_dir / TRAINER_STATE
    if not path.is_file():
        return f"Model {model_dir.name}"
    state = read_record(path)
    return f"Model after {state['global_step']} of {state['max_steps']} steps"


def _asked(hub: HubSection, ask: Callable[[], str]) -> str:
    """What the Hub answers, with its refusals as errors that say what to do."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        do = "push where there is a network, without HF_HUB_OFFLINE; to train without a push: hub.push=false"
        raise _refused(hub, "HF_HUB_OFFLINE is set", do)
    try:
        return ask()
    except VietstError:
        raise
    except UPLOAD_ERRORS as error:
        found, do = refusal(error) or (str(error), "run the same command again")
        raise _refused(hub, found, do, HubAwayError if is_away(error) else HubError) from error


def _refuse_other_content(hub: HubSection, files: list[str]) -> None:
    others = [path for path in files if not is_published(path) and path not in _HUBS_OWN_FILES]
    has_model = "config.json" in files
    pickles = [path for path in others if path.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if pickles or (others and not has_model):
        raise _refused(hub, f"the name is taken: it holds {(pickles or others)[0]}", "choose another name")


def _refused(hub: HubSection, found: str, do: str, kind: type[HubError] = HubError) -> HubError:
    return kind(
        where=f"repository {hub.repo_id}",
        rule="a repository on the Hub for this model alone, that the token may write to",
        found=found,
        do=do,
    )
