"""Features that lie in a dataset repository of the Hugging Face Hub: downloaded once, verified, opened.

A repository holds finished caches as `feature_cache` makes them, one for each input kind at most, with their
texts: `log_mel-80-3f9c0a51d2e47b86/train/data-00000-of-00007.arrow …` (see `feature_upload`), and an index of
their rows (see `feature_index`). They are opened without splits, manifest or audio.

Nothing that others wrote decides about a path or is executed: file names are those that this project gives,
and the content must be what the folder's name is the hash of.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vietst.config_schema import HUB_DATASET_PATTERN
from vietst.constants import SPLITS
from vietst.data.feature_card import CARD_FILE_NAME, COMPLETE_MARK, has_same_features, read_cards
from vietst.data.feature_index import PLACE_COLUMNS, index_path
from vietst.data.feature_plan import (
    FEATURE_COLUMNS,
    TEXT_COLUMNS,
    Digest,
    cache_key,
    original_name,
    shard_name,
)
from vietst.data.features import FEATURE_CODE_VERSION, InputKind
from vietst.data.shard_files import cache_features
from vietst.data.streaming import RemoteShards
from vietst.errors import ConfigError, FeatureCacheError
from vietst.hub_access import HUB_ERRORS, connection_problem, refusal
from vietst.runtime import get_logger

if TYPE_CHECKING:
    import datasets

HUB_PREFIX: Final = "hf://datasets/"
_CARD_KEYS: Final = {
    *("input_kind", "feature_code_version", "cache_format_version", "num_utterances", "split_hash"),
}

logger = get_logger(__name__)


@dataclass(frozen=True)
class HubFeatures:
    """An opened cache."""

    cache: "datasets.DatasetDict"
    split_hash: str
    """Of the splits that it was made from."""
    address: str
    """With the commit, which never changes."""
    remote_shards: dict[str, RemoteShards]
    """Of the splits whose rows in `cache` lack their features, which stayed where they are."""


def open_hub_features(address: str, kind: InputKind, *, streamed: Collection[str] = ()) -> HubFeatures:
    """Downloads what is missing of a repository's cache of this kind, verifies it, and opens it.

    With what was downloaded before it works offline; the branch is then as it was.

    Args:
        address: hf://datasets/OWNER/NAME, with @REVISION (branch, tag or commit) if wanted.
        streamed: splits of which only the index is downloaded.

    Raises:
        ConfigError: no such address.
        FeatureCacheError: no way to it, no such features there, or not what its card says.
    """
    repo_id, revision = parse_address(address)
    snapshot = _download(address, repo_id, revision, [f"*/{CARD_FILE_NAME}", f"*/{COMPLETE_MARK}"])
    name, card = _choose(address, snapshot, kind)
    paths = [index_path(split) if split in streamed else f"{split}/*" for split in SPLITS]
    _download(address, repo_id, snapshot.name, [f"{name}/{path}" for path in paths])
    cache = open_verified(snapshot / name, card, kind, streamed=streamed)
    at_commit = f"{HUB_PREFIX}{repo_id}@{snapshot.name}"
    logger.info("features: %s/%s", at_commit, name)
    remote_shards = {
        split: RemoteShards(
            repo_id, snapshot.name, f"{name}/{split}", 1 + max(cache[split]["shard"][:]), kind
        )
        for split in streamed
    }
    return HubFeatures(cache, str(card["split_hash"]), at_commit, remote_shards)


def parse_address(address: str) -> tuple[str, str]:
    """Repository and revision of an hf:// address. Raises ConfigError for what is none."""
    match = re.fullmatch(HUB_DATASET_PATTERN, address)
    if match is None or ".." in address:
        raise ConfigError(
            where="paths.features_dir",
            rule=f"a folder, or {HUB_PREFIX}OWNER/NAME, with @REVISION if wanted",
            found=address,
            do="correct the address",
        )
    return match[1], match[2] or "main"


def _download(address: str, repo_id: str, revision: str, patterns: list[str]) -> Path:
    """The snapshot's folder in the local cache; its name is the commit."""
    import huggingface_hub

    url = huggingface_hub.hf_hub_url(repo_id, "README.md", repo_type="dataset")
    is_offline = huggingface_hub.constants.HF_HUB_OFFLINE
    problem = None if is_offline else connection_problem(url)
    try:
        snapshot = huggingface_hub.snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=revision,
            allow_patterns=patterns,
            local_files_only=is_offline or problem is not None,
        )
    except HUB_ERRORS as error:
        found, do = refusal(error) or (str(error), "see above")
        raise FeatureCacheError(
            where=address, rule="features that can be downloaded, or were before", found=found, do=do
        ) from error
    if problem is not None:
        logger.warning("%s; taking %s as it was downloaded before", problem, address)
    return Path(snapshot)


def _choose(address: str, snapshot: Path, kind: InputKind) -> tuple[str, dict[str, Any]]:
    """Name and card of the snapshot's cache of this kind."""
    cards = {
        path.name: card
        for path, card in read_cards(snapshot, kind).items()
        if isinstance(card, dict) and card.keys() >= _CARD_KEYS
    }
    fitting = {name: card for name, card in cards.items() if has_same_features(card, kind)}
    if len(fitting) == 1:
        return next(iter(fitting.items()))
    if fitting:
        found, do = f"several: {', '.join(sorted(fitting))}", "name a @REVISION that holds one of them"
    elif cards:
        version = next(iter(cards.values()))["feature_code_version"]
        found = f"one of feature code version {version}, this is version {FEATURE_CODE_VERSION}"
        do = "build and push it with this version, or name a @REVISION that was made by it"
    elif others := sorted(path.parent.name for path in snapshot.glob(f"*/{CARD_FILE_NAME}")):
        found = f"only {', '.join(others)}"
        do = f"push this kind as well: build_features.py --kinds {kind.name} --push_to_hub"
    else:
        found, do = "no features of this project", "name a dataset that build_features.py --push_to_hub made"
    raise FeatureCacheError(where=address, rule=f"a finished cache of kind {kind.name}", found=found, do=do)


# --- verifying --------------------------------------------------------------------------------------------


def open_verified(
    directory: Path, card: dict[str, Any], kind: InputKind, *, streamed: Collection[str] = ()
) -> "datasets.DatasetDict":
    """Opens a cache that came from elsewhere, if it is what its folder's name is the hash of.

    Reads texts, digests and lengths of all rows, not the features.

    Args:
        streamed: splits whose index is opened instead.

    Raises:
        FeatureCacheError: files are missing, are not as this project writes them, or hold another content.
    """
    import datasets

    cache = datasets.DatasetDict(
        {split: _open_split(directory, split, is_index=split in streamed) for split in SPLITS}
    )
    computed = (*FEATURE_COLUMNS, *PLACE_COLUMNS)
    strings = [column for column in cache["train"].column_names if column not in computed]
    rows_digest, audio_digest = Digest([list(map(original_name, strings))]), Digest()
    for split, rows in cache.items():
        _check_rows(directory / split, rows, strings, kind, is_index=split in streamed)
        for *texts, digest, duration_s in _values(rows, [*strings, "audio_digest", "duration_s"]):
            rows_digest.add([split, texts])
            audio_digest.add([digest, duration_s])
    counts = {split: len(rows) for split, rows in cache.items()}
    if counts != card["num_utterances"]:
        raise _damaged(directory, f"the rows that its card counts, {card['num_utterances']}", str(counts))
    key = cache_key(kind, rows_digest.hexdigest(), audio_digest.hexdigest())
    if directory.name != f"{kind.name}-{key}":
        raise _damaged(directory, "texts and audio whose hash stands in the folder's name", key)
    return cache


def _open_split(directory: Path, split: str, *, is_index: bool) -> "datasets.Dataset":
    """By the names that a cache's files have: `state.json`, which names files as well, is not asked."""
    import datasets
    import pyarrow  # type: ignore[import-untyped]

    folder = directory / split
    names = sorted(path.name for path in folder.glob("*.arrow"))
    if not is_index and (not names or names != [shard_name(n, len(names)) for n in range(len(names))]):
        raise _damaged(folder, "all shards", f"{len(names)} files: {', '.join(names[:3])}")
    paths = [directory / index_path(split)] if is_index else [folder / name for name in names]
    try:
        return datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in paths])
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise _damaged(folder, "files that can be read", str(error)) from error


def _check_rows(
    where: Path, rows: "datasets.Dataset", strings: list[str], kind: InputKind, *, is_index: bool
) -> None:
    """The columns of a cache, and features that are as long as `num_frames` says."""
    import pyarrow.compute as compute  # type: ignore[import-untyped]
    from datasets import Features, Value

    expected = cache_features(strings)
    if is_index:
        places = dict(zip(PLACE_COLUMNS, (Value("int32"), Value("int64")), strict=True))
        expected = Features({name: kind for name, kind in expected.items() if name != "features"} | places)
    if rows.features != expected or tuple(strings[: len(TEXT_COLUMNS)]) != TEXT_COLUMNS:
        raise _damaged(where, "the columns of a feature cache", ", ".join(rows.column_names))
    if is_index:
        return
    table = rows.data.table
    lengths = compute.multiply(table["num_frames"], kind.bytes_per_frame)
    if not compute.all(compute.equal(compute.binary_length(table["features"]), lengths)).as_py():
        raise _damaged(where, "features as long as num_frames says", "longer or shorter ones")


def _values(rows: "datasets.Dataset", columns: list[str]) -> Iterator[tuple[Any, ...]]:
    for batch in rows.data.table.select(columns).to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _damaged(where: Path, rule: str, found: str) -> FeatureCacheError:
    return FeatureCacheError(
        where=str(where),
        rule=f"features that came from elsewhere have {rule}",
        found=found,
        do="remove the repository from the local cache (hf cache rm) to download it again, or push it again",
    )
