"""Which utterances must share a split, and which split a group gets so that shares are met in hours.

Everything here is exact whole-number arithmetic on durations in microseconds and depends on names and the
seed alone, so that neither the order of rows nor the machine can change a split.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vietst.constants import SPLITS

_GOOD_ENOUGH_SHARE: Final = 0.001
"""No more exchanges once every split is within this share of all hours from its target."""
_MAX_EXCHANGES: Final = 200


def connected_components(keys_of_items: Iterable[Sequence[Hashable]]) -> list[int]:
    """Ties together all items that share a key, directly or through others.

    Returns:
        For each item the number of its component, in the order of their first items.
    """
    parent: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        top = key
        while parent[top] != top:
            top = parent[top]
        while parent[key] != top:
            parent[key], key = top, parent[key]
        return top

    first_keys: list[Hashable] = []
    for item, keys in enumerate(keys_of_items):
        # An item without keys is tied to nothing; its own number cannot equal a key (those are tuples).
        keys = keys or (item,)
        first_keys.append(keys[0])
        for key in keys:
            parent.setdefault(key, key)
            parent[root(key)] = root(keys[0])
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(root(key), len(numbers)) for key in first_keys]


@dataclass(frozen=True)
class Group:
    """Utterances that get their split together."""

    name: str
    """Unique and independent of other groups: decides the group's turn."""
    duration_us: int


def place_groups(
    groups: Sequence[Group],
    placed_us: Mapping[str, int],
    ratios: Mapping[str, float],
    seed: int,
) -> dict[str, str]:
    """Gives each new group a split, so that hours come as near to the ratios as whole groups allow.

    Groups come in an order that seed and name decide, each into the split that is then furthest below its
    share. Its own length plays no part, so that dev and test do not collect the short ones. Only groups that
    are larger than the smallest share come first, where they add least to the sum of squared deviations,
    relative to the targets. Afterwards groups are moved and exchanged as long as that brings the sum down.

    Args:
        placed_us: microseconds that each split already holds and keeps.
        ratios: target share of each split; they sum to 1.

    Returns:
        Group name → split. A split that holds nothing yet gets a group if there are enough of them.
    """
    total_us = sum(placed_us.values()) + sum(group.duration_us for group in groups)
    targets = {split: max(ratios[split] * total_us, 1.0) for split in SPLITS}
    totals = dict(placed_us)
    large_us = min(targets.values())
    order = sorted(groups, key=lambda group: (group.duration_us <= large_us, _turn(seed, group.name)))
    members: dict[str, list[Group]] = {split: [] for split in SPLITS}
    for index, group in enumerate(order):
        empty = [split for split in SPLITS if totals[split] == 0]
        candidates = empty if len(empty) >= len(order) - index else SPLITS
        duration_us = group.duration_us if group.duration_us > large_us else 0
        split = min(candidates, key=lambda name: _cost_of_adding(duration_us, totals[name], targets[name]))
        totals[split] += group.duration_us
        members[split].append(group)
    _exchange(members, totals, targets, total_us)
    return {group.name: split for split in SPLITS for group in members[split]}


def _turn(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()


def _cost_of_adding(duration_us: int, total_us: int, target_us: float) -> float:
    """By how much (total - target)² / target grows with each second of the duration."""
    return (duration_us + 2 * (total_us - target_us)) / target_us


@dataclass(frozen=True)
class _Exchange:
    gain: float
    giver: str
    taker: str
    given: Group
    returned: Group | None


def _exchange(
    members: dict[str, list[Group]], totals: dict[str, int], targets: Mapping[str, float], total_us: int
) -> None:
    """Moves or swaps groups between two splits, best first, until the targets are met or nothing helps."""
    for _ in range(_MAX_EXCHANGES):
        if max(abs(totals[split] - targets[split]) for split in SPLITS) <= _GOOD_ENOUGH_SHARE * total_us:
            return
        candidates = [
            exchange
            for giver in SPLITS
            for taker in SPLITS
            if giver != taker and (exchange := _best_exchange(members, totals, targets, giver, taker))
        ]
        if not candidates:
            return
        best = max(candidates, key=lambda exchange: exchange.gain)
        moved_us = best.given.duration_us - (best.returned.duration_us if best.returned else 0)
        totals[best.giver] -= moved_us
        totals[best.taker] += moved_us
        members[best.giver].remove(best.given)
        members[best.taker].append(best.given)
        if best.returned:
            members[best.taker].remove(best.returned)
            members[best.giver].append(best.returned)


def _best_exchange(
    members: Mapping[str, Sequence[Group]],
    totals: Mapping[str, int],
    targets: Mapping[str, float],
    giver: str,
    taker: str,
) -> _Exchange | None:
    """The exchange of one group for one or none that lowers the deviation of the two splits most."""
    surplus, shortage = totals[giver] - targets[giver], targets[taker] - totals[taker]
    weight_giver, weight_taker = 1 / targets[giver], 1 / targets[taker]
    # What should change hands: the minimum of (surplus - x)² / target + (shortage - x)² / target.
    wanted = (surplus * weight_giver + shortage * weight_taker) / (weight_giver + weight_taker)
    if wanted <= 0:
        return None
    returns = sorted(members[taker], key=lambda group: (group.duration_us, group.name))
    return_durations = [group.duration_us for group in returns]
    best: _Exchange | None = None
    for given in sorted(members[giver], key=lambda group: group.name):
        at = bisect_left(return_durations, given.duration_us - wanted)
        options: list[Group | None] = list(returns[max(at - 1, 0) : at + 1])
        if totals[giver] > given.duration_us:
            options.append(None)
        for returned in options:
            moved = given.duration_us - (returned.duration_us if returned else 0)
            gain = (wanted**2 - (moved - wanted) ** 2) * (weight_giver + weight_taker)
            # A millisecond squared: rounding alone must not go on forever.
            if gain > 1e6 * (weight_giver + weight_taker) and (best is None or gain > best.gain):
                best = _Exchange(gain, giver, taker, given, returned)
    return best
