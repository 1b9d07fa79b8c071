"""Publishing finished feature caches as a dataset repository of the Hugging Face Hub.

Shards go first, then, in one commit, what says that they are complete: a reader never finds half a cache.
What the repository holds already is not sent again, so an upload that broke off goes on where it was.
"""

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vietst.constants import SPLITS
from vietst.data.feature_card import CARD_FILE_NAME, COMPLETE_MARK, read_cards
from vietst.data.feature_index import index_path, write_index
from vietst.data.feature_plan import FEATURE_COLUMNS
from vietst.data.features import InputKind
from vietst.data.hub_features import HUB_PREFIX, open_verified
from vietst.errors import FeatureCacheError
from vietst.hub_access import HUB_ERRORS, UPLOAD_ERRORS, hub_address, open_repository, refusal
from vietst.quantities import size_in_words
from vietst.runtime import get_logger

_CACHE_NAME: Final = re.compile(r".+-[0-9a-f]{16}")
_OWN_FILES: Final = (".gitattributes", "README.md")

logger = get_logger(__name__)


def require_repository(repo_id: str, *, public: bool) -> str:
    """Makes the dataset repository if it is not there, before hours of work go into what it shall hold.

    Returns:
        Its full name, OWNER/NAME.

    Raises:
        FeatureCacheError: no way to the Hub, no right to write there, or a repository that holds other things
            or is seen by others than was asked for.
    """

    def refused(found: str, do: str) -> FeatureCacheError:
        return _refused(repo_id, found, do)

    try:
        repo_id, files = open_repository(repo_id, kind="dataset", private=not public, refused=refused)
    except HUB_ERRORS as error:
        raise refused(*(refusal(error) or (str(error), "see above"))) from error
    _refuse_other_content(repo_id, files)
    return repo_id


def push_features(
    repo_id: str, features_dir: Path, directories: Sequence[tuple[InputKind, Path]], *, public: bool
) -> str:
    """Uploads finished caches; older ones of the same kinds leave the newest revision, not the history.

    Args:
        repo_id: as `require_repository` gave it.
        directories: of the caches, one for each kind.

    Returns:
        The address for `paths.features_dir`.

    Raises:
        FeatureCacheError: a cache that is not whole, or a Hub that refuses.
    """
    import huggingface_hub

    cards = {}
    for kind, directory in directories:
        cards[directory] = read_cards(features_dir, kind)[directory]
        columns = open_verified(directory, cards[directory], kind)["train"].column_names
        published = ", ".join(column for column in columns if column not in FEATURE_COLUMNS)
        logger.warning(
            "publishing %s to %s/datasets/%s, %s: features%s, and for each utterance %s",
            *(directory.name, hub_address(), repo_id),
            "for everybody to see" if public else "for those who may see the private repository",
            " that are the speech itself" if kind.kind == "waveform" else "",
            published,
        )
    try:
        for directory in cards:
            huggingface_hub.upload_folder(
                repo_id=repo_id,
                repo_type="dataset",
                folder_path=directory,
                path_in_repo=directory.name,
                allow_patterns=[f"{split}/*" for split in SPLITS],
                commit_message=f"Shards of {directory.name}",
            )
            _upload_index(repo_id, directory)
        _complete(repo_id, cards)
    except UPLOAD_ERRORS as error:
        raise _refused(repo_id, *(refusal(error) or (str(error), "run the same command again"))) from error
    return f"{HUB_PREFIX}{repo_id}"


def _upload_index(repo_id: str, directory: Path) -> None:
    import huggingface_hub

    with tempfile.TemporaryDirectory() as folder:
        for split in SPLITS:
            write_index(directory, split, Path(folder) / index_path(split))
        huggingface_hub.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            path_in_repo=directory.name,
            commit_message=f"Index of {directory.name}",
        )


def _complete(repo_id: str, cards: dict[Path, dict[str, Any]]) -> None:
    """One commit with cards, marks and README, that drops the caches which these replace."""
    import huggingface_hub
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = huggingface_hub.HfApi()
    described = {directory.name: card for directory, card in cards.items()}
    kinds = {name.rpartition("-")[0] for name in described}
    replaced = []
    for path in api.list_repo_files(repo_id, repo_type="dataset"):
        name, _, file = path.partition("/")
        if file == CARD_FILE_NAME and name not in described:
            if name.rpartition("-")[0] in kinds:
                replaced.append(name)
            else:
                card_path = api.hf_hub_download(repo_id, path, repo_type="dataset")
                described[name] = json.loads(Path(card_path).read_text(encoding="utf-8"))
    readme = dataset_card(repo_id, described)
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(
            CommitOperationAdd(f"{directory.name}/{name}", directory / name)
            for directory in cards
            for name in (CARD_FILE_NAME, COMPLETE_MARK)
        ),
        CommitOperationAdd("README.md", readme.encode()),
        *(CommitOperationDelete(f"{name}/", is_folder=True) for name in replaced),
    ]
    message = f"Complete: {', '.join(sorted(kinds))}"
    api.create_commit(repo_id, operations, repo_type="dataset", commit_message=message)


def dataset_card(repo_id: str, cards: dict[str, dict[str, Any]]) -> str:
    """The repository's README.md, from the cards of its caches (by folder)."""
    from huggingface_hub import DatasetCardData

    configs = [
        {
            "config_name": card["input_kind"]["name"],
            "data_files": [{"split": split, "path": f"{name}/{split}/*.arrow"} for split in SPLITS],
        }
        for name, card in sorted(cards.items())
    ]
    metadata = DatasetCardData(
        language=["vi", "en"],
        task_categories=["automatic-speech-recognition", "translation"],
        tags=["code-switching", "vietst-features"],
        configs=configs,
    )
    rows = "\n".join(
        f"| `{card['input_kind']['name']}` | {card['feature_code_version']} | "
        + " | ".join(f"{card['num_utterances'][s]:,} ({card['audio_hours'][s]:.2f} h)" for s in SPLITS)
        + f" | {size_in_words(card['num_bytes'])} | `{card['split_hash']}` |"
        for _, card in sorted(cards.items())
    )
    return f"""---
{metadata.to_yaml()}
---

# {repo_id.partition("/")[2]}

Features of Vietnamese speech with English words, with transcripts and Vietnamese translations, made by vietst
to train on. This text is generated from what was recorded when they were made; a push writes it anew.

| input kind | feature code | train | dev | test | size | splits |
|---|---|---|---|---|---|---|
{rows}

**What is in here**: of each utterance its id, texts, the other columns of the manifest, the relative name of
its audio file, a digest of the audio, and features in half precision. `log_mel` features let one reconstruct
the speech roughly; `waveform` features are the speech itself. There are no audio files.

Train on it with `paths.features_dir={HUB_PREFIX}{repo_id}` (and `@COMMIT`, to train on exactly this), or look
into it:

```python
from datasets import load_dataset

rows = load_dataset("{repo_id}", "{configs[0]["config_name"]}", split="dev")
```
"""


def _refuse_other_content(repo_id: str, files: Sequence[str]) -> None:
    others = [
        name for name in files if name not in _OWN_FILES and not _CACHE_NAME.fullmatch(name.partition("/")[0])
    ]
    if others:
        raise _refused(repo_id, f"the name is taken: it holds {others[0]}", "choose another name")


def _refused(repo_id: str, found: str, do: str) -> FeatureCacheError:
    return FeatureCacheError(
        where=f"--push_to_hub {repo_id}",
        rule="a dataset repository on the Hub for features alone, that the token may write to",
        found=found,
        do=do,
    )
