"""A corpus that grows and shrinks in any order: what was once in a split stays out of the others."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_splits import COLUMNS, RATIOS, Row, make_row, make_rows, split_of_ids, split_rows
from vietst.constants import SPLITS
from vietst.data.split_audit import describe_groups
from vietst.data.split_plan import OldSplits, Utterance, keys_of, plan_splits
from vietst.data.splits import splits_are_current
from vietst.data.tables import read_table, write_table
from vietst.data.takedown_list import Takedown, read_takedown
from vietst.errors import ManifestError

VERIFIED_COLUMNS = [*COLUMNS, "verified"]


@st.composite
def videos(draw: st.DrawFn) -> list[list[Utterance]]:
    """Some of a speaker or channel that others share."""
    names = st.sampled_from(["", "", *"abcdefgh"])
    corpus = []
    for video in range(draw(st.integers(4, 16))):
        speaker, channel = draw(names), draw(names)
        rows = [make_row(number, f"v{video:03d}", speaker=speaker, channel=channel) for number in range(2)]
        duration_us = draw(st.integers(500_000, 30_000_000))
        corpus.append(
            [Utterance(r["id"], r["audio_path"], keys_of(r), duration_us, draw(st.booleans())) for r in rows]
        )
    return corpus


class Memory:
    """What the split files and the pins hold between two runs."""

    def __init__(self) -> None:
        self.split_of: dict[str, str] = {}
        self.pins: dict[Any, set[str]] = defaultdict(set)

    def split(self, utterances: list[Utterance], *, only_verified: bool) -> dict[str, str]:
        old = OldSplits()
        for utterance in utterances:
            if utterance.id in self.split_of:
                split = self.split_of[utterance.id]
                old.add(split, utterance.id, utterance.audio_path, utterance.keys)
        old.add_pins(self.pins)
        plan = plan_splits(utterances, old, RATIOS, 42, only_verified=only_verified)
        describe_groups(utterances, plan, RATIOS)
        self.split_of = {utterances[i].id: split for split in SPLITS for i in plan.positions_in(split)}
        for utterance, split in zip(utterances, plan.split_of, strict=True):
            for key in utterance.keys:
                self.pins[key].add(split)
        return dict(self.split_of)


@settings(max_examples=60)
@given(corpus=videos(), only_verified=st.booleans(), data=st.data())
def test_in_any_order_of_steps_nothing_that_was_once_in_a_split_is_ever_in_another(
    corpus: list[list[Utterance]], only_verified: bool, data: st.DataObject
) -> None:
    """Each step has some of the videos: they come, go and come back, tied by speakers and channels."""
    memory, first_split = Memory(), {}
    for _ in range(data.draw(st.integers(2, 5))):
        step = [u for video in corpus if data.draw(st.booleans()) for u in video]
        split_of = memory.split(step, only_verified=only_verified)
        for name, split in split_of.items():
            assert first_split.setdefault(name, split) == split
        videos_in = defaultdict(set)
        for utterance in step:
            if utterance.id in split_of:
                videos_in[utterance.keys[0]].add(split_of[utterance.id])
        assert all(len(splits) == 1 for splits in videos_in.values())
        if only_verified:
            verified = {u.id for u in step if u.is_verified}
            assert all(name in verified for name, split in split_of.items() if split != "train")
        else:
            assert split_of.keys() == {u.id for u in step}


def test_a_test_video_that_leaves_and_comes_back_comes_back_into_test(tmp_path: Path) -> None:
    rows = make_rows(20)
    split_rows(tmp_path, rows)
    before = split_of_ids(tmp_path)
    of_test = min(name for name in before if before[name] == "test").split("-")[0]
    split_rows(tmp_path, [row for row in rows if row["video_id"] != of_test])
    assert not any(name.startswith(of_test) for name in split_of_ids(tmp_path))
    audit = split_rows(tmp_path, [*rows, *make_rows(5, first=20)], seed=7)
    after = split_of_ids(tmp_path)
    assert {name: after[name] for name in before} == before
    assert audit["num_keys_pinned"] == 25
    for column, facts in audit["groups"]["keys_in_several_splits"].items():
        assert not facts, column


def test_what_is_pinned_can_be_read_and_added_to(tmp_path: Path) -> None:
    split_rows(tmp_path, [make_row(0, f"v{n}", speaker=f"s{n}", channel="" if n else "c") for n in range(12)])
    pins = tmp_path / "splits" / "pinned.tsv"
    split_of = {name.split("-")[0]: split for name, split in split_of_ids(tmp_path).items()}
    lines = read_table(pins)
    assert len(lines) == 25
    assert {"column": "channel_id", "value": "c", "split": split_of["v0"]} in lines
    for video, split in split_of.items():
        assert {"column": "video_id", "value": video, "split": split} in lines
    with pins.open("a", encoding="utf-8") as file:
        file.write("video_id\t coming \ttest\n")
    rows = [make_row(0, f"v{n}", speaker=f"s{n}", channel="" if n else "c") for n in range(12)]
    split_rows(tmp_path, [*rows, make_row(0, "coming")])
    assert split_of_ids(tmp_path)["coming-0000"] == "test"
    with pins.open("a", encoding="utf-8") as file:
        file.write("video\tcoming\ttest\n")
    with pytest.raises(ManifestError, match=r"line 28"):
        split_rows(tmp_path, [*rows, make_row(1, "coming")])


def test_fresh_forgets_what_is_pinned(tmp_path: Path) -> None:
    split_rows(tmp_path, make_rows(20))
    split_rows(tmp_path, make_rows(10), fresh=True)
    assert len(read_table(tmp_path / "splits" / "pinned.tsv")) == 10


def test_a_new_row_that_repeats_a_test_text_is_reported_and_the_test_row_stays(tmp_path: Path) -> None:
    rows = make_rows(20)
    split_rows(tmp_path, rows)
    before = split_of_ids(tmp_path)
    of_test = next(row for row in rows if before[row["id"]] == "test")
    # So much that train gets some of it.
    new = [{**row, "transcript": of_test["transcript"]} for row in make_rows(20, first=20)]
    audit = split_rows(tmp_path, rows + new)
    after = split_of_ids(tmp_path)
    assert {name: after[name] for name in before} == before
    assert audit["text_overlap"]["transcript"]["exact"]["num_utterances"]["test in train"] > 0


# --- verified ---------------------------------------------------------------------------------------------


def verified_rows(num_videos: int, verified: dict[str, str]) -> list[Row]:
    """Three rows a video; `verified`: what the column says, by video or by id."""
    return [
        {**row, "verified": verified.get(row["id"], verified.get(row["video_id"], ""))}
        for row in make_rows(num_videos)
    ]


def split_verified(folder: Path, rows: list[Row], **options: Any) -> dict[str, Any]:
    from vietst.data.splits import split_manifest

    write_table(folder / "clean.tsv", rows, VERIFIED_COLUMNS)
    return split_manifest(folder / "clean.tsv", folder / "splits", **options)


def test_dev_and_test_are_drawn_from_verified_rows_and_the_others_of_their_videos_are_set_aside(
    tmp_path: Path,
) -> None:
    videos = {f"v{n:03d}": "yes" for n in range(10, 18)}
    rows = verified_rows(40, {**videos, **{f"{video}-0001": "no" for video in videos}})
    audit = split_verified(tmp_path, rows, eval_from="verified")
    split_of = split_of_ids(tmp_path)
    evaluated = [row for row in rows if split_of.get(row["id"]) in ("dev", "test")]
    assert evaluated
    assert {row["verified"] for row in evaluated} == {"yes"}
    aside = read_table(tmp_path / "splits" / "set_aside.csv")
    assert {row["id"] for row in aside} == {row["id"] for row in rows} - split_of.keys()
    assert {row["video_id"] for row in aside} == {row["video_id"] for row in evaluated}
    assert {row["verified"] for row in aside} == {"no"}
    assert sum(facts["num_utterances"] for facts in audit["set_aside"].values()) == len(aside)
    for split in ("dev", "test"):
        facts = audit["splits"][split]
        assert facts["num_verified"] == facts["num_utterances"] == 2 * facts["num_videos"]
        assert facts["num_videos"] == 4, "a tenth of the hours, counted by whole videos"


def test_rows_that_are_verified_later_join_their_group_and_how_splits_were_drawn_is_remembered(
    tmp_path: Path,
) -> None:
    split_verified(tmp_path, verified_rows(20, {}))
    before = split_of_ids(tmp_path)
    of_test = sorted(name for name in before if before[name] == "test")
    of_dev = sorted(name for name in before if before[name] == "dev")
    said = dict.fromkeys([*of_test[:2], *of_dev], "TRUE")
    audit = split_verified(tmp_path, verified_rows(20, said), eval_from="verified")
    assert audit["set_aside"]["test"]["num_utterances"] == len(of_test) - 2
    assert split_of_ids(tmp_path) == {n: s for n, s in before.items() if s != "test" or n in said}
    assert splits_are_current(tmp_path / "clean.tsv", tmp_path / "splits", eval_from="verified")
    assert not splits_are_current(tmp_path / "clean.tsv", tmp_path / "splits", eval_from="all")
    audit = split_verified(tmp_path, verified_rows(20, {**said, of_test[2]: "1"}))
    assert audit["eval_from"] == "verified"
    assert split_of_ids(tmp_path)[of_test[2]] == "test"
    assert split_verified(tmp_path, verified_rows(20, said), eval_from="all")["set_aside"] == {}
    assert split_of_ids(tmp_path) == before
    assert not (tmp_path / "splits" / "set_aside.csv").exists()


def test_verified_rows_of_too_few_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no column verified"):
        split_rows(tmp_path, make_rows(9), eval_from="verified")
    with pytest.raises(ManifestError, match="none of 27 is verified"):
        split_verified(tmp_path, verified_rows(9, {"v001": "no", "v002": "maybe"}), eval_from="verified")
    with pytest.raises(ManifestError, match="1 with verified rows") as caught:
        split_verified(tmp_path, verified_rows(9, {"v001": "yes"}), eval_from="verified")
    assert "--eval_from all" in caught.value.do


# --- taken down -------------------------------------------------------------------------------------------


def takedown_of(folder: Path, *entries: str) -> Takedown:
    (folder / "takedown.txt").write_text("# asked for\n\n" + "\n".join(entries) + "\n", encoding="utf-8")
    return read_takedown(folder / "takedown.txt")


def test_rows_on_the_list_are_in_no_split_and_forgotten(tmp_path: Path) -> None:
    rows = [
        make_row(0, f"v{n:02d}", speaker=f"s{n // 2}", channel="c" if n in (4, 5) else "") for n in range(24)
    ]
    split_rows(tmp_path, rows)
    before = split_of_ids(tmp_path)
    takedown = takedown_of(tmp_path, "v01", "audio_path=audio/v10/0000.wav", "channel_id=c", "v20-0000")
    assert not splits_are_current(tmp_path / "clean.tsv", tmp_path / "splits", takedown=takedown)
    audit = split_rows(tmp_path, rows, takedown=takedown)
    gone = {f"v{number:02d}-0000" for number in (1, 4, 5, 10, 20)}
    assert split_of_ids(tmp_path) == {name: split for name, split in before.items() if name not in gone}
    assert audit["num_utterances_taken_down"] == len(gone)
    pinned = {line["value"] for line in read_table(tmp_path / "splits" / "pinned.tsv")}
    assert pinned.isdisjoint({"v01", "v04", "v05", "c", "s2"})
    assert {"s0", "s5", "v02"} <= pinned, "of others, too"
    assert splits_are_current(tmp_path / "clean.tsv", tmp_path / "splits", takedown=takedown)
    everything = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "splits").iterdir())
    assert "của v04" not in everything


def test_a_row_that_is_set_aside_is_taken_down_too(tmp_path: Path) -> None:
    videos = {f"v{n:03d}": "yes" for n in range(10, 18)}
    rows = verified_rows(40, {**videos, **{f"{video}-0001": "no" for video in videos}})
    split_verified(tmp_path, rows, eval_from="verified")
    set_aside = tmp_path / "splits" / "set_aside.csv"
    named, *others = (row["id"] for row in read_table(set_aside))
    split_verified(tmp_path, rows, takedown=takedown_of(tmp_path, named))
    assert [row["id"] for row in read_table(set_aside)] == others


@pytest.mark.parametrize(
    ("entry", "row", "is_named"),
    [
        ("v1", {"video_id": "v1"}, True),
        ("v1", {"id": "v1"}, True),
        ("clips\\a.wav", {"audio_path": "clips/a.wav"}, True),
        ("v1", {"speaker_id": "v1", "channel_id": "v1", "transcript": "v1"}, False),
        ("speaker_id=v1", {"speaker_id": "v1"}, True),
        ("speaker_id=v1", {"video_id": "v1"}, False),
        ("video_id=a=b", {"video_id": "a=b"}, True),
        ("v1", {"video_id": "v10"}, False),
        ("vie\u0302\u0323t", {"video_id": "việt"}, True),
        ("#v1", {"video_id": "#v1"}, False),
    ],
)
def test_what_an_entry_names(tmp_path: Path, entry: str, row: dict[str, str], is_named: bool) -> None:
    assert (takedown_of(tmp_path, entry).entry_for(row) == entry) == is_named


def test_a_list_that_is_absent_names_nothing_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert not read_takedown(tmp_path / "none.txt")
    with pytest.raises(ManifestError, match="line 3"):
        takedown_of(tmp_path, "channel_id=")
    (tmp_path / "takedown.txt").write_bytes("vidéo".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        read_takedown(tmp_path / "takedown.txt")
