"""Pushing a corpus without audio to a dataset repository of the Hub: one commit, with what changed alone."""

from collections.abc import Callable
from typing import Any, Final

from vietst.constants import SPLITS
from vietst.errors import HubError, VietstError
from vietst.hub.corpus import Corpus, data_file
from vietst.hub.corpus_card import CARD_NAME
from vietst.hub_access import UPLOAD_ERRORS, hub_address, open_repository, refusal
from vietst.runtime import get_logger

_OWN_FILES: Final = (CARD_NAME, *map(data_file, SPLITS))
_HUBS_OWN_FILES: Final = (".gitattributes",)

logger = get_logger(__name__)


def require_repository(repo_id: str, *, public: bool) -> str:
    """Makes the dataset repository if it is not there.

    Returns:
        Its full name, OWNER/NAME.

    Raises:
        HubError: no way to the Hub, no right to write there, or a repository that holds other things or is
            seen by others than was asked for.
    """

    def refused(found: str, do: str) -> HubError:
        return _refused(repo_id, found, do)

    name, files = _asked(
        repo_id, lambda: open_repository(repo_id, kind="dataset", private=not public, refused=refused)
    )
    others = [file for file in files if file not in (*_OWN_FILES, *_HUBS_OWN_FILES)]
    if others:
        raise refused(f"the name is taken: it holds {others[0]}", "choose another name")
    return str(name)


def push_corpus(repo_id: str, corpus: Corpus, *, public: bool) -> str:
    """Pushes data and card in one commit; without a change there is none.

    Args:
        repo_id: as `require_repository` gave it.

    Returns:
        The address of the dataset's page.
    """
    import huggingface_hub

    address = f"{hub_address()}/datasets/{repo_id}"
    logger.warning(
        "publishing to %s, %s: for each utterance %s",
        address,
        "for everybody to see" if public else "for those who may see the private repository",
        ", ".join(column.name for column in corpus.columns),
    )
    operations = [huggingface_hub.CommitOperationAdd(path, corpus.folder / path) for path in _OWN_FILES]
    _asked(
        repo_id,
        lambda: huggingface_hub.HfApi().create_commit(
            repo_id,
            operations,
            repo_type="dataset",
            commit_message=f"{corpus.num_rows:,} utterances, without audio",
        ),
    )
    return address


def _asked(repo_id: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except VietstError:
        raise
    except UPLOAD_ERRORS as error:
        raise _refused(repo_id, *(refusal(error) or (str(error), "run the same command again"))) from error


def _refused(repo_id: str, found: str, do: str) -> HubError:
    return HubError(
        where=f"--push_to_hub {repo_id}",
        rule="a dataset repository on the Hub for this corpus alone, that the token may write to",
        found=found,
        do=do,
    )
