"""Which split every utterance gets: old ones keep theirs, groups stay whole, shares are met in hours."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vietst.constants import SPLITS
from vietst.data.grouping import Group, connected_components, place_groups

GROUP_COLUMNS: Final = ("video_id", "speaker_id", "channel_id")
"""Utterances that agree in one of these get the same split; an empty value ties nothing."""

Key = tuple[str, str]
"""(column of GROUP_COLUMNS, value)"""

_PRECEDENCE: Final = ("test", "dev", "train")
"""Where the new utterances of a group go that already stands in several splits."""


@dataclass(frozen=True)
class Utterance:
    """What the plan needs to know of a row."""

    id: str
    audio_path: str
    """With the times of a piece behind it, see `audio_pieces.locator_of`."""
    keys: tuple[Key, ...]
    duration_us: int
    is_verified: bool = False
    """By a person: see `vietst.data.verified`."""
    source: str = ""
    """Of several, see `vietst.data.sources`."""


@dataclass
class OldSplits:
    """The splits as they were: a split for each audio path, id and key."""

    split_of_audio: dict[str, str] = field(default_factory=dict)
    split_of_id: dict[str, str] = field(default_factory=dict)
    splits_of_key: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, split: str, utterance_id: str, audio_path: str, keys: Iterable[Key]) -> None:
        self.split_of_audio[audio_path] = split
        self.split_of_id[utterance_id] = split
        for key in keys:
            self.splits_of_key[key].add(split)

    def add_pins(self, pins: Mapping[Key, Iterable[str]]) -> None:
        """Keys that are known to belong to splits, whether or not any of their rows is there."""
        for key, splits in pins.items():
            self.splits_of_key[key].update(splits)

    def split_of(self, utterance: Utterance) -> str | None:
        """By its audio, else (the file was renamed) by its id."""
        return self.split_of_audio.get(utterance.audio_path) or self.split_of_id.get(utterance.id)


@dataclass(frozen=True)
class PlannedGroup:
    """Utterances that are tied together, as positions in the list that was planned."""

    name: str
    """The smallest of its videos' ids."""
    members: list[int]
    duration_us: int
    old_splits: tuple[str, ...]
    """Splits that it belonged to before, by its utterances or by its keys, in the order of SPLITS."""


@dataclass(frozen=True)
class SplitPlan:
    """For each utterance its split, and how that came about."""

    split_of: list[str]
    """The split of its group, also of an utterance that is set aside."""
    is_set_aside: list[bool]
    """Its group belongs to dev or test, which hold verified utterances only: it is in no split."""
    groups: list[PlannedGroup]
    only_verified: bool
    """As `plan_splits` was asked."""
    num_kept: int
    """Utterances that were in a split before and stayed there."""

    def positions_in(self, split: str) -> list[int]:
        """The utterances that the split's file holds."""
        return [
            index
            for index, (its_split, is_aside) in enumerate(zip(self.split_of, self.is_set_aside, strict=True))
            if its_split == split and not is_aside
        ]

    @property
    def tied_groups(self) -> list[PlannedGroup]:
        """Groups whose old utterances stand in several splits, and stay there."""
        return [group for group in self.groups if len(group.old_splits) > 1]


def keys_of(row: Mapping[str, str]) -> tuple[Key, ...]:
    """The keys that tie a row to others."""
    return tuple((column, value) for column in GROUP_COLUMNS if (value := row.get(column, "").strip()))


def plan_splits(
    utterances: Sequence[Utterance],
    old: OldSplits,
    ratios: Mapping[str, float],
    seed: int,
    *,
    only_verified: bool = False,
) -> SplitPlan:
    """Decides a split for every utterance; the order of `utterances` plays no part.

    * An utterance of an old split keeps it, whatever else happens; new ones of a video join the video.
    * New videos follow their group, which its old utterances and its keys tie to a split, also where all
      its old utterances are gone. If these stand in several splits, they join test, else dev.
    * New groups are placed by `grouping.place_groups`, source by source, for each to have its shares.

    A split may come out empty if there are fewer groups than splits.

    Args:
        only_verified: dev and test hold verified utterances only. Of their groups the others are set aside:
            in train they would leak. New groups without a verified one go to train. Shares count the hours
            of whole groups, so that never more than dev's and test's shares are set aside.
    """
    old_split_of = [old.split_of(utterance) for utterance in utterances]
    groups = _groups(utterances, old_split_of, old)
    split_of = [split or "" for split in old_split_of]
    for group in groups:
        pinned = _preferred(group.old_splits)
        for member in group.members:
            video = utterances[member].keys[0]
            split_of[member] = split_of[member] or _preferred(old.splits_of_key.get(video, ())) or pinned
            if only_verified and not group.old_splits and not _has_verified(utterances, group):
                split_of[member] = "train"
    placed_us: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for utterance, split in zip(utterances, split_of, strict=True):
        if split:
            placed_us[utterance.source][split] += utterance.duration_us
    new_groups: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if not split_of[group.members[0]]:
            new_groups[_source_of(utterances, group)].append(Group(group.name, group.duration_us))
    split_of_group = {
        name: split
        for source, of_source in new_groups.items()
        for name, split in place_groups(of_source, placed_us[source], ratios, seed).items()
    }
    for group in groups:
        for member in group.members:
            split_of[member] = split_of[member] or split_of_group[group.name]
    is_set_aside = [
        only_verified and split != "train" and not utterance.is_verified
        for utterance, split in zip(utterances, split_of, strict=True)
    ]
    num_kept = sum(
        split is not None and not is_aside for split, is_aside in zip(old_split_of, is_set_aside, strict=True)
    )
    return SplitPlan(split_of, is_set_aside, groups, only_verified, num_kept)


def _source_of(utterances: Sequence[Utterance], group: PlannedGroup) -> str:
    """The source that most of the group's time is from; of equal ones the first by name."""
    duration_us: dict[str, int] = defaultdict(int)
    for index in group.members:
        duration_us[utterances[index].source] += utterances[index].duration_us
    return min(duration_us, key=lambda source: (-duration_us[source], source))


def _has_verified(utterances: Sequence[Utterance], group: PlannedGroup) -> bool:
    return any(utterances[index].is_verified for index in group.members)


def _groups(
    utterances: Sequence[Utterance], old_split_of: Sequence[str | None], old: OldSplits
) -> list[PlannedGroup]:
    members_of: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(connected_components(utterance.keys for utterance in utterances)):
        members_of[number].append(index)
    groups = []
    for members in members_of.values():
        of_rows = {split for index in members if (split := old_split_of[index])}
        of_keys = {
            _preferred(old.splits_of_key[key])
            for index in members
            for key in utterances[index].keys
            if key in old.splits_of_key
        }
        splits = of_rows | of_keys
        groups.append(
            PlannedGroup(
                name=min(value for index in members for _, value in utterances[index].keys[:1]),
                members=members,
                duration_us=sum(utterances[index].duration_us for index in members),
                old_splits=tuple(split for split in SPLITS if split in splits),
            )
        )
    return sorted(groups, key=lambda group: group.name)


def _preferred(splits: Iterable[str]) -> str:
    """Test if it is among them, else dev, else train; empty if there are none."""
    return min(splits, key=_PRECEDENCE.index, default="")
