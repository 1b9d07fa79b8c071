"""What is refused when splits are made, and what is said about those that were made."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vietst.constants import SPLITS
from vietst.data.split_plan import SplitPlan, Utterance
from vietst.data.tables import Table
from vietst.data.verified import VERIFIED_COLUMN
from vietst.errors import ManifestError
from vietst.runtime import get_logger

_logger = get_logger(__name__)


def shares_of(ratios: Sequence[float]) -> dict[str, float]:
    """Three ratios (or per cent) as shares of train, dev and test. Raises ManifestError for what is none."""
    values = [float(ratio) for ratio in ratios]
    total = sum(values)
    is_whole = any(math.isclose(total, whole, rel_tol=1e-6) for whole in (1, 100))
    if len(values) != len(SPLITS) or not is_whole or not min(values) > 0:
        raise ManifestError(
            where="ratios",
            rule="three shares above 0, of train, dev and test, that sum to 1 (or to 100)",
            found=" ".join(f"{value:g}" for value in values),
            do="for example --ratios 0.8 0.1 0.1",
        )
    return {split: value / total for split, value in zip(SPLITS, values, strict=True)}


def refuse_unverified(table: Table, utterances: Sequence[Utterance]) -> None:
    """Refuses to draw dev and test from verified rows where there are none. Raises ManifestError."""
    if any(utterance.is_verified for utterance in utterances):
        return
    has_column = VERIFIED_COLUMN in table.columns
    raise ManifestError(
        where=str(table.path),
        rule="with --eval_from verified (data.eval_from), dev and test are drawn from verified rows",
        found=f"none of {len(utterances)} is verified" if has_column else f"no column {VERIFIED_COLUMN}",
        do=f"say in a column {VERIFIED_COLUMN} of the manifest (true or false) which rows a person has "
        "checked, and clean it again; or draw from all rows: --eval_from all",
    )


def refuse_empty_splits(
    manifest_path: Path, utterances: Sequence[Utterance], plan: SplitPlan, *, has_old: bool
) -> None:
    """Refuses a plan that leaves a split empty. Raises ManifestError.

    Args:
        has_old: there are splits that were kept.
    """
    empty = [split for split in SPLITS if not plan.positions_in(split)]
    if not empty:
        return
    num_videos = len({utterance.keys[0] for utterance in utterances})
    groups = f"{len(plan.groups)} group{'s' * (len(plan.groups) > 1)}"
    videos = f"{num_videos} video{'s' * (num_videos > 1)}"
    hint = (
        "add videos; or, if these clips come from more of them, name the video in a column video_id or by "
        "preprocess_manifest.py --video_id_pattern"
    )
    if plan.only_verified:
        num_verified = sum(
            any(utterances[index].is_verified for index in group.members) for group in plan.groups
        )
        groups += f" ({num_verified} with verified rows, which alone make dev and test)"
        hint = "verify rows of more videos, or draw dev and test from all rows: --eval_from all"
    elif len(plan.groups) >= len(SPLITS):
        hint = "add videos, which go where something is missing"
    elif num_videos >= len(SPLITS):
        hint = "add videos, or correct the speaker_id and channel_id that tie these together"
    if has_old:
        hint += "; or split anew with --fresh"
    raise ManifestError(
        where=str(manifest_path),
        rule="train, dev and test get a group each (a video, with all that shares its speaker or channel)",
        found=f"{groups} in {videos} (one is {plan.groups[0].name!r}): nothing for {' and '.join(empty)}",
        do=hint,
    )


def report(audit: Mapping[str, Any]) -> None:
    """Says what splits hold, and what about them a person should know."""
    for split, facts in audit["splits"].items():
        _logger.info(
            "%-5s %6d utterances, %4d videos, %7.2f hours, %.1f %% (target %.1f %%)",
            split, facts["num_utterances"], facts["num_videos"], facts["hours"],
            100 * facts["share_reached"], 100 * facts["share_target"],
        )  # fmt: skip
    for split, facts in audit["set_aside"].items():
        _logger.warning(
            "%d utterances (%.2f hours) of %s's groups are not verified. They are in no split, since"
            " in train they would leak; set_aside.csv has them",
            facts["num_utterances"], facts["hours"], split,
        )  # fmt: skip
    groups = audit["groups"]
    for group in groups["larger_than_their_split"]:
        _logger.warning(
            "group %s holds %.1f %% of all hours, more than its split %s should: it was not cut",
            group["group"], 100 * group["share_of_hours"], group["split"],
        )  # fmt: skip
    if groups["keys_in_several_splits"]["num_keys"]:
        _logger.warning(
            "%d videos, speakers or channels stand in several splits: old utterances stay where they are",
            groups["keys_in_several_splits"]["num_keys"],
        )
    for column in ("transcript", "translation"):
        for kind in ("exact", "near"):
            counts = audit["text_overlap"][column][kind]["num_utterances"]
            if any(counts.values()):
                told = ", ".join(f"{where}: {count}" for where, count in counts.items() if count)
                _logger.info("%s duplicates (%s): %s", kind, column, told)
