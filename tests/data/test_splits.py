"""Splits: nothing leaks, nothing moves, shares are met in hours, and what is left to know is reported."""

import random
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vietst.constants import SPLITS
from vietst.data.grouping import Group, connected_components, place_groups
from vietst.data.split_plan import GROUP_COLUMNS, OldSplits, SplitPlan, Utterance, keys_of, plan_splits
from vietst.data.splits import read_audit, read_split, split_manifest, split_path, splits_are_current
from vietst.data.tables import file_digest, write_table
from vietst.errors import ManifestError

RATIOS = {"train": 0.8, "dev": 0.1, "test": 0.1}
COLUMNS = ["id", "audio_path", "transcript", "translation", "duration", *GROUP_COLUMNS, "title"]

Row = dict[str, str]


def make_row(number: int, video: str, *, speaker: str = "", channel: str = "", duration: str = "2") -> Row:
    return {
        "id": f"{video}-{number:04d}",
        "audio_path": f"audio/{video}/{number:04d}.wav",
        "transcript": f"câu {number} của {video}",
        "translation": f"bản dịch {number} của {video}",
        "duration": duration,
        "video_id": video,
        "speaker_id": speaker,
        "channel_id": channel,
        "title": f"tựa, đề\n{number}",
    }


def make_rows(num_videos: int, rows_per_video: int = 3, first: int = 0) -> list[Row]:
    return [
        make_row(number, f"v{video:03d}")
        for video in range(first, first + num_videos)
        for number in range(rows_per_video)
    ]


def split_rows(folder: Path, rows: list[Row], **options: Any) -> dict[str, Any]:
    write_table(folder / "clean.tsv", rows, COLUMNS)
    return split_manifest(folder / "clean.tsv", folder / "splits", **options)


def split_of_ids(folder: Path) -> dict[str, str]:
    return {row["id"]: split for split in SPLITS for row in read_split(folder / "splits", split)}


def bytes_of_splits(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "splits").iterdir())}


# --- laws of the plan -------------------------------------------------------------------------------------


@st.composite
def corpora(draw: st.DrawFn, min_videos: int = 4, max_videos: int = 40) -> list[Utterance]:
    """Videos of a few clips, some tied by speakers and channels."""
    num_videos = draw(st.integers(min_videos, max_videos))
    names = st.sampled_from(["", "", "", *"abcdefghijklmnop"])
    utterances = []
    for video in range(num_videos):
        channel = draw(names)
        for number in range(draw(st.integers(1, 4))):
            row = make_row(number, f"v{video:03d}", speaker=draw(names), channel=channel)
            duration_us = draw(st.integers(500_000, 30_000_000))
            utterances.append(Utterance(row["id"], row["audio_path"], keys_of(row), duration_us))
    return utterances


def as_old(utterances: list[Utterance], plan: SplitPlan) -> OldSplits:
    old = OldSplits()
    for utterance, split in zip(utterances, plan.split_of, strict=True):
        old.add(split, utterance.id, utterance.audio_path, utterance.keys)
    return old


@given(utterances=corpora(), seed=st.integers(0, 100))
def test_every_utterance_is_in_one_split_and_no_key_in_two(utterances: list[Utterance], seed: int) -> None:
    plan = plan_splits(utterances, OldSplits(), RATIOS, seed)
    assert len(plan.split_of) == len(utterances)
    assert set(plan.split_of) <= set(SPLITS)
    splits_of_key = defaultdict(set)
    for utterance, split in zip(utterances, plan.split_of, strict=True):
        for key in utterance.keys:
            splits_of_key[key].add(split)
    assert all(len(splits) == 1 for splits in splits_of_key.values())
    assert not plan.tied_groups
    if len(plan.groups) >= len(SPLITS):
        assert set(plan.split_of) == set(SPLITS)


@given(utterances=corpora(), seed=st.integers(0, 100), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_plays_no_part(
    utterances: list[Utterance], seed: int, shuffle: random.Random
) -> None:
    plan = plan_splits(utterances, OldSplits(), RATIOS, seed)
    expected = {utterance.id: split for utterance, split in zip(utterances, plan.split_of, strict=True)}
    shuffle.shuffle(utterances)
    other = plan_splits(utterances, OldSplits(), RATIOS, seed)
    assert {
        utterance.id: split for utterance, split in zip(utterances, other.split_of, strict=True)
    } == expected


@given(utterances=corpora(), data=st.data())
def test_growing_and_shrinking_moves_nothing(utterances: list[Utterance], data: st.DataObject) -> None:
    """Any part of a corpus is split first, then another part that overlaps: common rows stay."""
    first = [utterance for utterance in utterances if data.draw(st.booleans())]
    plan = plan_splits(first, OldSplits(), RATIOS, 42)
    before = {utterance.id: split for utterance, split in zip(first, plan.split_of, strict=True)}
    second = [utterance for utterance in utterances if data.draw(st.booleans())]
    grown = plan_splits(second, as_old(first, plan), RATIOS, 42)
    after = {utterance.id: split for utterance, split in zip(second, grown.split_of, strict=True)}
    assert {name: after[name] for name in before if name in after} == {
        name: split for name, split in before.items() if name in after
    }
    # What is new leaks only where old rows are tied across splits, and that is told.
    tied = {member for group in grown.tied_groups for member in group.members}
    splits_of_key = defaultdict(set)
    for index, (utterance, split) in enumerate(zip(second, grown.split_of, strict=True)):
        if index not in tied:
            for key in utterance.keys:
                splits_of_key[key].add(split)
    assert all(len(splits) == 1 for splits in splits_of_key.values())


@given(
    num_groups=st.integers(100, 300),
    longest_us=st.integers(1_000_000, 9_000_000),
    seed=st.integers(0, 1000),
)
def test_shares_are_met_where_groups_are_small(num_groups: int, longest_us: int, seed: int) -> None:
    generator = random.Random(seed)
    groups = [Group(f"g{number}", generator.randint(1_000_000, longest_us)) for number in range(num_groups)]
    placed = place_groups(groups, dict.fromkeys(SPLITS, 0), RATIOS, seed)
    total_us = sum(group.duration_us for group in groups)
    # Among equal groups the split that gets the remainder may be one group off; unequal ones fill gaps.
    tolerance = max(0.002, longest_us / total_us if longest_us < 1_500_000 else 0)
    for split in SPLITS:
        share = sum(group.duration_us for group in groups if placed[group.name] == split) / total_us
        assert share == pytest.approx(RATIOS[split], abs=tolerance)


@given(seed=st.integers(0, 1000))
def test_shares_are_met_when_new_groups_join_old_ones(seed: int) -> None:
    generator = random.Random(seed)
    placed_us = {"train": 500_000_000, "dev": 100_000_000, "test": 20_000_000}
    groups = [Group(f"g{number}", generator.randint(1_000_000, 5_000_000)) for number in range(200)]
    placed = place_groups(groups, placed_us, RATIOS, seed)
    totals = Counter(placed_us)
    for group in groups:
        totals[placed[group.name]] += group.duration_us
    for split in SPLITS:
        assert totals[split] / sum(totals.values()) == pytest.approx(RATIOS[split], abs=0.002)


def test_another_seed_gives_another_split_and_test_is_no_special_sort_of_groups() -> None:
    generator = random.Random(0)
    groups = [Group(f"g{number}", generator.randint(1_000_000, 9_000_000)) for number in range(100)]
    tests = []
    for seed in range(20):
        placed = place_groups(groups, dict.fromkeys(SPLITS, 0), RATIOS, seed)
        tests.append([group for group in groups if placed[group.name] == "test"])
    assert len({tuple(group.name for group in test) for test in tests}) == 20
    mean_us = sum(group.duration_us for test in tests for group in test) / sum(map(len, tests))
    assert mean_us == pytest.approx(sum(group.duration_us for group in groups) / 100, rel=0.1)


def test_a_giant_group_goes_where_it_does_least_harm_and_no_split_is_empty() -> None:
    groups = [Group("giant", 90), Group("a", 1), Group("b", 1)]
    for seed in range(20):
        placed = place_groups(groups, dict.fromkeys(SPLITS, 0), RATIOS, seed)
        assert placed["giant"] == "train"
        assert set(placed.values()) == set(SPLITS)


def test_components_follow_chains_of_keys() -> None:
    items = [[("v", "1")], [("v", "2"), ("s", "x")], [("v", "3")], [("v", "1"), ("s", "x")], [], [("s", "1")]]
    assert connected_components(items) == [0, 0, 1, 0, 2, 3]


# --- files ------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = make_rows(10)
    split_rows(tmp_path, rows)
    read = {row["id"]: row for split in SPLITS for row in read_split(tmp_path / "splits", split)}
    assert read == {row["id"]: {**row, "duration": 2.0} for row in rows}
    for split in SPLITS:
        ids = [row["id"] for row in read_split(tmp_path / "splits", split)]
        assert ids == sorted(ids)


def test_files_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = make_rows(30)
    split_rows(tmp_path / "a", rows)
    random.Random(1).shuffle(rows)
    split_rows(tmp_path / "b", rows)
    one, other = bytes_of_splits(tmp_path / "a"), bytes_of_splits(tmp_path / "b")
    assert {name: one[name] for name in one if name != "audit.json"} == {
        name: other[name] for name in other if name != "audit.json"
    }
    audits = [read_audit(tmp_path / name / "splits") for name in "ab"]
    assert audits[0]["split_hash"] == audits[1]["split_hash"]
    for audit in audits:
        del audit["manifest"]
    assert audits[0] == audits[1]


def test_a_second_run_changes_no_byte(tmp_path: Path) -> None:
    split_rows(tmp_path, make_rows(20))
    before = bytes_of_splits(tmp_path)
    audit = split_rows(tmp_path, make_rows(20))
    assert bytes_of_splits(tmp_path) == before
    assert audit == read_audit(tmp_path / "splits")
    split_rows(tmp_path, make_rows(20), fresh=True)
    assert bytes_of_splits(tmp_path) == before


def test_new_videos_fill_up_what_is_short_and_old_ones_stay(tmp_path: Path) -> None:
    split_rows(tmp_path, make_rows(20))
    before = split_of_ids(tmp_path)
    audit = split_rows(tmp_path, make_rows(20)[3:] + make_rows(80, first=20), seed=7)
    after = split_of_ids(tmp_path)
    assert all(after[name] == before[name] for name in before if name in after)
    assert (audit["num_utterances_kept"], audit["num_utterances_new"], audit["num_utterances_gone"]) == (
        57,
        240,
        3,
    )
    for split in SPLITS:
        assert audit["splits"][split]["share_reached"] == pytest.approx(RATIOS[split], abs=0.01)
    split_rows(tmp_path, make_rows(20), seed=7, fresh=True)
    assert split_of_ids(tmp_path) != before


def test_a_renamed_file_and_a_new_id_are_recognized(tmp_path: Path) -> None:
    rows = make_rows(20)
    split_rows(tmp_path, rows)
    before = split_of_ids(tmp_path)
    # Other video ids, so that nothing but the path or the id can tell.
    renamed = [
        {**row, "audio_path": f"moved/{row['audio_path']}", "video_id": f"w{row['video_id']}"} for row in rows
    ]
    assert split_rows(tmp_path, renamed)["num_utterances_kept"] == len(rows)
    assert split_of_ids(tmp_path) == before
    split_rows(tmp_path, [{**row, "id": f"new {row['id']}"} for row in renamed])
    assert split_of_ids(tmp_path) == {f"new {name}": split for name, split in before.items()}


def test_clips_that_are_cut_anew_stay_with_their_video(tmp_path: Path) -> None:
    split_rows(tmp_path, make_rows(30))
    before = {name.split("-")[0]: split for name, split in split_of_ids(tmp_path).items()}
    rows = [
        {**row, "id": f"cut-{row['id']}", "audio_path": f"cut/{row['audio_path']}"} for row in make_rows(30)
    ]
    audit = split_rows(tmp_path, rows, seed=7)
    assert audit["num_utterances_kept"] == 0
    assert {name.split("-")[1]: split for name, split in split_of_ids(tmp_path).items()} == before


@pytest.mark.parametrize(
    ("tied", "expected"),
    [(("train", "dev"), "dev"), (("train", "test"), "test"), (("dev", "test"), "test"), (SPLITS, "test")],
)
def test_a_row_that_ties_splits_together_joins_test_then_dev_and_is_reported(
    tmp_path: Path, tied: tuple[str, ...], expected: str
) -> None:
    rows = [
        make_row(number, f"v{video:02d}", speaker=f"s{video:02d}") for video in range(20) for number in (0, 1)
    ]
    split_rows(tmp_path, rows)
    before = split_of_ids(tmp_path)
    videos = [min(name for name in before if before[name] == split).split("-")[0] for split in tied]
    speakers = [video.replace("v", "s") for video in videos]
    new = [make_row(number, "new", speaker=speaker) for number, speaker in enumerate(speakers)]
    audit = split_rows(tmp_path, rows + new)
    after = split_of_ids(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {after[row["id"]] for row in new} == {expected}
    groups = audit["groups"]
    assert groups["num_in_several_splits"] == 1
    assert set(groups["in_several_splits"][0]["num_utterances"]) == set(tied)
    leaking = {speaker for speaker, split in zip(speakers, tied, strict=True) if split != expected}
    assert {key["speaker_id"] for key in groups["keys_in_several_splits"]["listed"]} == leaking
    assert groups["keys_in_several_splits"]["num_keys"] == len(leaking)


def test_a_group_larger_than_its_split_is_kept_whole_and_reported(tmp_path: Path) -> None:
    rows = make_rows(10) + [make_row(number, f"big{number}", speaker="host") for number in range(40)]
    audit = split_rows(tmp_path, rows, ratios=(0.4, 0.3, 0.3))
    splits = {split for name, split in split_of_ids(tmp_path).items() if name.startswith("big")}
    assert splits == {"train"}
    (group,) = audit["groups"]["larger_than_their_split"]
    assert (group["split"], group["num_videos"]) == ("train", 40)
    assert group["tied_by"] == [{"speaker_id": "host", "num_videos": 40}]


def test_the_audit_counts_what_the_files_hold(tmp_path: Path) -> None:
    rows = [
        make_row(number, f"v{video}", speaker=f"s{video // 2}", channel="c" if video < 4 else "")
        for video in range(40)
        for number in range(3)
    ]
    audit = split_rows(tmp_path, rows)
    for split in SPLITS:
        facts, members = audit["splits"][split], read_split(tmp_path / "splits", split)
        assert facts["num_utterances"] == len(members)
        assert facts["num_videos"] == len({row["video_id"] for row in members})
        assert facts["num_speakers"] == len({row["speaker_id"] for row in members})
        assert facts["hours"] == pytest.approx(2 * len(members) / 3600, abs=1e-6)
        assert facts["digest"] == file_digest(split_path(tmp_path / "splits", split))
    assert audit["groups"]["num_groups"] == 1 + 18
    assert sum(audit["splits"][split]["num_groups"] for split in SPLITS) == 19
    assert audit["manifest"]["digest"] == file_digest(tmp_path / "clean.tsv")
    assert (audit["seed"], audit["ratios"]) == (42, RATIOS)


def test_repeated_texts_across_splits_are_reported_and_stay(tmp_path: Path) -> None:
    rows = make_rows(20)
    for row in rows:
        row["transcript"] = "Chào các bạn!" if row["id"].endswith("0000") else row["transcript"]
    audit = split_rows(tmp_path, rows)
    exact = audit["text_overlap"]["transcript"]["exact"]
    assert exact["num_texts"] == 1
    assert exact["num_utterances"]["test in train"] == audit["splits"]["test"]["num_videos"]
    assert exact["most_frequent"][0]["text"] == "chào các bạn"
    assert sum(exact["most_frequent"][0]["num_utterances"].values()) == 20
    assert audit["text_overlap"]["translation"]["exact"]["num_texts"] == 0
    assert len(split_of_ids(tmp_path)) == len(rows)


def test_what_is_current_depends_on_manifest_and_files(tmp_path: Path) -> None:
    manifest, splits = tmp_path / "clean.tsv", tmp_path / "splits"
    assert not splits_are_current(manifest, splits)
    split_rows(tmp_path, make_rows(20))
    assert splits_are_current(manifest, splits)
    content = split_path(splits, "dev").read_bytes()
    split_path(splits, "dev").write_bytes(content.replace(b"\r", b"") + b"\n")
    assert not splits_are_current(manifest, splits)
    split_path(splits, "dev").write_bytes(content)
    assert splits_are_current(manifest, splits)
    write_table(manifest, make_rows(21), COLUMNS)
    assert not splits_are_current(manifest, splits)


def test_rows_that_a_person_moved_stay_where_they_were_put(tmp_path: Path) -> None:
    split_rows(tmp_path, make_rows(20))
    splits = tmp_path / "splits"
    shutil.move(split_path(splits, "dev"), tmp_path / "dev")
    shutil.move(split_path(splits, "test"), split_path(splits, "dev"))
    shutil.move(tmp_path / "dev", split_path(splits, "test"))
    before = split_of_ids(tmp_path)
    with pytest.raises(
        ManifestError, match=r"is pinned to \w+ and has rows in \w+\.csv, and 3 more"
    ) as caught:
        split_rows(tmp_path, make_rows(20))
    assert "without pinned.tsv the split files count" in caught.value.do
    (splits / "pinned.tsv").unlink()
    split_rows(tmp_path, make_rows(20))
    assert split_of_ids(tmp_path) == before
    assert splits_are_current(tmp_path / "clean.tsv", splits)


# --- refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (make_rows(1, 50), "1 group in 1 video "),
        (make_rows(2, 50), "2 groups in 2 videos"),
        ([make_row(0, f"v{video}", speaker="host") for video in range(9)], "1 group in 9 videos"),
    ],
)
def test_fewer_groups_than_splits_are_refused(tmp_path: Path, rows: list[Row], found: str) -> None:
    with pytest.raises(ManifestError, match=found) as caught:
        split_rows(tmp_path, rows)
    assert "nothing for" in caught.value.found
    assert ("speaker_id" in caught.value.do) == ("9 videos" in found)
    assert not (tmp_path / "splits").exists()


def test_a_split_that_ran_empty_is_filled_by_new_groups_or_refused(tmp_path: Path) -> None:
    split_rows(tmp_path, make_rows(10))
    after = split_of_ids(tmp_path)
    rows = [row for row in make_rows(10) if after[row["id"]] != "test"]
    with pytest.raises(ManifestError, match="nothing for test") as caught:
        split_rows(tmp_path, rows)
    assert "--fresh" in caught.value.do
    split_rows(tmp_path, [*rows, make_row(0, "new")])
    assert split_of_ids(tmp_path)["new-0000"] == "test"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"video_id": ""}, "no video_id"),
        ({"id": "", "transcript": ""}, "no id and no transcript"),
        ({"id": "v000-0000"}, "'v000-0000' a second time"),
        ({"duration": "-1"}, "duration '-1'"),
        ({"duration": "nan"}, "duration 'nan'"),
        ({"duration": "3 s"}, "duration '3 s'"),
    ],
)
def test_a_manifest_that_was_not_cleaned_is_refused(tmp_path: Path, change: Row, found: str) -> None:
    rows = make_rows(5)
    rows[2] |= change
    with pytest.raises(ManifestError) as caught:
        split_rows(tmp_path, rows)
    assert caught.value.found == found
    assert "preprocess_manifest.py" in caught.value.do
    assert "line " in caught.value.where


@pytest.mark.parametrize(
    "ratios", [(0.8, 0.1), (0.8, 0.2, 0.0), (0.8, 0.1, 0.2), (0.9, 0.2, -0.1), (1, 1, 1)]
)
def test_impossible_ratios_are_refused(tmp_path: Path, ratios: tuple[float, ...]) -> None:
    with pytest.raises(ManifestError, match="ratios"):
        split_rows(tmp_path, make_rows(10), ratios=ratios)


def test_ratios_may_be_percent(tmp_path: Path) -> None:
    assert split_rows(tmp_path, make_rows(10), ratios=(80, 10, 10))["ratios"] == RATIOS


def test_incomplete_or_contradictory_old_splits_are_refused(tmp_path: Path) -> None:
    split_rows(tmp_path, make_rows(10))
    splits = tmp_path / "splits"
    dev = split_path(splits, "dev").read_bytes()
    split_path(splits, "dev").unlink()
    with pytest.raises(ManifestError, match=r"no dev\.csv"):
        split_rows(tmp_path, make_rows(10))
    split_path(splits, "dev").write_bytes(split_path(splits, "train").read_bytes())
    with pytest.raises(ManifestError, match=r"is also in train\.csv"):
        split_rows(tmp_path, make_rows(10))
    split_path(splits, "dev").write_bytes(dev)
    split_rows(tmp_path, make_rows(10))


def test_reading_a_split_that_is_missing_or_damaged_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"python scripts/split_data\.py"):
        read_split(tmp_path, "train")
    with pytest.raises(ManifestError, match=r"python scripts/split_data\.py"):
        read_audit(tmp_path)
    (tmp_path / "train.csv").write_text("id,audio_path\n1,a.wav\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="no transcript") as caught:
        read_split(tmp_path, "train")
    assert "split_data.py" in caught.value.do
    write_table(tmp_path / "train.csv", [make_row(0, "v", duration="long")], COLUMNS)
    with pytest.raises(ManifestError, match="line 2"):
        read_split(tmp_path, "train")
