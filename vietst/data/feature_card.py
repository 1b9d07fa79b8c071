"""The card of a feature cache: what made it, and why it does or does not fit what is asked for."""

import contextlib
import dataclasses
import datetime
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from vietst.data.feature_plan import CACHE_FORMAT_VERSION, CachePlan
from vietst.data.features import FEATURE_CODE_VERSION, InputKind

CARD_FILE_NAME: Final = "feature_card.json"
CARD_TIME_FIELDS: Final = ("finished_at",)
"""All that differs between two caches of the same content, made by the same package versions."""
COMPLETE_MARK: Final = "dataset_dict.json"
"""The file of a cache that is written last."""

_RECORDED_PACKAGES: Final = ("datasets", "numpy", "pyarrow", "soundfile", "soxr", "torch", "transformers")


def make_card(directory: Path, plan: CachePlan) -> dict[str, object]:
    """What made a cache whose shards are all written."""
    return {
        "input_kind": dataclasses.asdict(plan.kind),
        "feature_code_version": FEATURE_CODE_VERSION,
        "cache_format_version": CACHE_FORMAT_VERSION,
        "key": plan.key,
        "split_hash": plan.split_hash,
        "rows_digest": plan.rows_digest,
        "audio_digest": plan.audio_digest,
        "num_utterances": plan.num_rows,
        "audio_hours": {split: round(duration_s / 3600, 4) for split, duration_s in plan.duration_s.items()},
        "num_shards": len(plan.shards),
        "num_bytes": num_bytes(directory, plan),
        "packages": {package: metadata.version(package) for package in _RECORDED_PACKAGES},
        "finished_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def num_bytes(directory: Path, plan: CachePlan) -> int:
    """Size of the shards on disk."""
    return sum((directory / shard.path_in_cache).stat().st_size for shard in plan.shards)


def cache_directories(features_dir: Path, kind: InputKind) -> list[Path]:
    """The folders of all caches of this kind, finished or not."""
    name = re.compile(re.escape(kind.name) + "-[0-9a-f]{16}")
    return sorted(path for path in features_dir.glob(f"{kind.name}-*") if name.fullmatch(path.name))


def read_cards(features_dir: Path, kind: InputKind) -> dict[Path, dict[str, Any]]:
    """The cards of the finished caches of this kind, by folder."""
    cards = {directory: read_card(directory) for directory in cache_directories(features_dir, kind)}
    return {directory: card for directory, card in cards.items() if card is not None}


def read_card(directory: Path) -> dict[str, Any] | None:
    """The card of a finished cache. None: it is unfinished, or nobody's cache: its card cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        if (directory / COMPLETE_MARK).is_file():
            card: dict[str, Any] = json.loads((directory / CARD_FILE_NAME).read_text(encoding="utf-8"))
            return card
    return None


def has_same_features(card: dict[str, Any], kind: InputKind) -> bool:
    """Whether a cache's features are those that this code makes of the same audio."""
    return (card["input_kind"], card["feature_code_version"], card["cache_format_version"]) == (
        dataclasses.asdict(kind),
        FEATURE_CODE_VERSION,
        CACHE_FORMAT_VERSION,
    )


def what_differs(features_dir: Path, plan: CachePlan) -> str:
    """Why the finished caches of this kind do not fit, in words."""
    cards = read_cards(features_dir, plan.kind)
    directory = features_dir / plan.directory_name
    if directory.is_dir():
        num_written = sum((directory / shard.path_in_cache).is_file() for shard in plan.shards)
        return f"an unfinished build: {num_written} of {len(plan.shards)} shards ({directory.name})"
    if not cards:
        others = sorted({path.parent.name for path in features_dir.glob(f"*/{COMPLETE_MARK}")})
        return "none of this kind" + (f", only {', '.join(others)}" if others else "")
    same_features = [card for card in cards.values() if has_same_features(card, plan.kind)]
    if not same_features:
        card = next(iter(cards.values()))
        return (
            f"one with other settings: {card['input_kind']}, feature code version "
            f"{card['feature_code_version']}, instead of {dataclasses.asdict(plan.kind)}, "
            f"version {FEATURE_CODE_VERSION}"
        )
    if any(card["rows_digest"] == plan.rows_digest for card in same_features):
        return "one of the same rows with other audio: files under the audio root have changed since"
    last = max(same_features, key=lambda card: str(card["finished_at"]))
    counts = f"{last['num_utterances']} utterances; now {plan.num_rows}"
    return f"one of other splits ({counts}): the splits have changed"
