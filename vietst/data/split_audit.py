"""`audit.json`: what the splits hold, how near they are to their shares, and what may leak between them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vietst.constants import SPLITS
from vietst.data.split_plan import Key, PlannedGroup, SplitPlan, Utterance

MAX_LISTED: Final = 50
"""Entries of each list of examples; the numbers beside the lists count all."""

_US_PER_HOUR: Final = 3600e6


def split_hash(digests: Mapping[str, str]) -> str:
    """One number that names all three splits: the SHA-256 of their files' digests."""
    joined = "\n".join(f"{split} {digests[split]}" for split in SPLITS)
    return f"sha256:{hashlib.sha256(joined.encode()).hexdigest()}"


def describe_splits(
    utterances: Sequence[Utterance], plan: SplitPlan, ratios: Mapping[str, float], digests: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Counts, hours and shares of each split."""
    positions_in = {split: plan.positions_in(split) for split in SPLITS}
    total_us = sum(utterances[index].duration_us for of_split in positions_in.values() for index in of_split)
    splits = {}
    for split in SPLITS:
        in_split = set(positions_in[split])
        members = [utterances[index] for index in positions_in[split]]
        values: dict[str, set[str]] = defaultdict(set)
        for utterance in members:
            for column, value in utterance.keys:
                values[column].add(value)
        duration_us = sum(utterance.duration_us for utterance in members)
        splits[split] = {
            "digest": digests[split],
            "num_utterances": len(members),
            "num_verified": sum(utterance.is_verified for utterance in members),
            "num_groups": sum(not in_split.isdisjoint(group.members) for group in plan.groups),
            "num_videos": len(values["video_id"]),
            "num_speakers": len(values["speaker_id"]),
            "num_channels": len(values["channel_id"]),
            "hours": round(duration_us / _US_PER_HOUR, 6),
            "share_target": ratios[split],
            "share_reached": round(duration_us / total_us, 6),
        }
    return splits


def describe_set_aside(utterances: Sequence[Utterance], plan: SplitPlan) -> dict[str, dict[str, Any]]:
    """How much of the groups of dev and test is in no split, since it is not verified."""
    durations_us: dict[str, list[int]] = defaultdict(list)
    for utterance, split, is_aside in zip(utterances, plan.split_of, plan.is_set_aside, strict=True):
        if is_aside:
            durations_us[split].append(utterance.duration_us)
    return {
        split: {
            "num_utterances": len(durations_us[split]),
            "hours": round(sum(durations_us[split]) / _US_PER_HOUR, 6),
        }
        for split in SPLITS
        if split in durations_us
    }


def describe_groups(
    utterances: Sequence[Utterance], plan: SplitPlan, ratios: Mapping[str, float]
) -> dict[str, Any]:
    """Groups that spoil the shares, groups that stand in several splits, and the keys that do."""
    total_us = sum(utterance.duration_us for utterance in utterances)
    oversized = [
        {
            "group": group.name,
            "split": plan.split_of[group.members[0]],
            "share_of_hours": round(group.duration_us / total_us, 6),
            "num_videos": len(_videos_with(utterances, group)),
            "tied_by": _ties(utterances, group),
        }
        for group in plan.groups
        if group.duration_us > ratios[plan.split_of[group.members[0]]] * total_us
    ]
    tied = [
        {
            "group": group.name,
            "num_utterances": {
                split: sum(plan.split_of[index] == split for index in group.members)
                for split in group.old_splits
            },
            "tied_by": _ties(utterances, group),
        }
        for group in plan.tied_groups
    ]
    return {
        "num_groups": len(plan.groups),
        "larger_than_their_split": oversized[:MAX_LISTED],
        "num_in_several_splits": len(tied),
        "in_several_splits": tied[:MAX_LISTED],
        "keys_in_several_splits": _keys_in_several_splits(utterances, plan),
    }


def _keys_in_several_splits(utterances: Sequence[Utterance], plan: SplitPlan) -> dict[str, Any]:
    splits_of_key: dict[Key, Counter[str]] = defaultdict(Counter)
    for split in SPLITS:
        for index in plan.positions_in(split):
            for key in utterances[index].keys:
                splits_of_key[key][split] += 1
    several = sorted((key, counts) for key, counts in splits_of_key.items() if len(counts) > 1)
    return {
        "num_keys": len(several),
        "listed": [
            {column: value, "num_utterances": {split: counts[split] for split in SPLITS if split in counts}}
            for (column, value), counts in several[:MAX_LISTED]
        ],
    }


def _videos_with(utterances: Sequence[Utterance], group: PlannedGroup) -> dict[str, set[Key]]:
    """Each video of the group with the other keys that its utterances have."""
    others: dict[str, set[Key]] = defaultdict(set)
    for index in group.members:
        (_, video_id), *rest = utterances[index].keys
        others[video_id].update(rest)
    return others


def _ties(utterances: Sequence[Utterance], group: PlannedGroup, num_listed: int = 3) -> list[dict[str, Any]]:
    """The speakers and channels that tie most of the group's videos together."""
    num_videos = Counter(key for keys in _videos_with(utterances, group).values() for key in keys)
    ties = sorted((-count, key) for key, count in num_videos.items() if count > 1)
    return [{column: value, "num_videos": -count} for count, (column, value) in ties[:num_listed]]
