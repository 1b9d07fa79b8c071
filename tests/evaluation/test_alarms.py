"""Broken hypotheses raise alarms, and what only looks like one does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.test_metrics import predictions_of
from tests.evaluation.test_report import PREDICTIONS, write
from vietst.evaluation.alarms import Alarm, alarm_lines, alarms_record, raise_alarms
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import read_metrics
from vietst.evaluation.results_table import format_results_table

REFERENCE = "Mình sẽ fix cái bug này trước deadline nhé."


def raised(prediction: Prediction) -> set[tuple[str, str]]:
    return {(count.alarm.value, count.texts) for count in raise_alarms([prediction]) if count.raised}


@pytest.mark.parametrize(
    ("reference", "hypothesis", "alarms"),
    [
        (REFERENCE, REFERENCE, set()),
        (REFERENCE, "mình sẽ phích cái bấc này", set()),
        # loops: a comma between the repeated words does not hide them
        (REFERENCE, "Mình, mình, mình, mình fix bug này", {Alarm.REPETITION_LOOPS}),
        ("Không không không!", "không không không", set()),
        # empty
        (REFERENCE, "", {Alarm.EMPTY_OUTPUTS}),
        (REFERENCE, " … ", {Alarm.EMPTY_OUTPUTS}),
        ("…", "", set()),
        # length: 9 words
        (REFERENCE, "mình sẽ fix cái", {Alarm.LENGTH_RATIO}),
        (REFERENCE, "mình sẽ fix cái bug", set()),
        (REFERENCE, f"{REFERENCE} Vâng ạ, em xin phép gửi anh bản mới nhất.", {Alarm.LENGTH_RATIO}),
        (REFERENCE, f"{REFERENCE} Vâng ạ, em xin phép gửi anh bản mới.", set()),
        ("Ok luôn nhé.", "ok luôn nhé anh ơi em đi", set()),
        ("Ok luôn nhé.", "ok luôn nhé anh ơi em đi đây", {Alarm.LENGTH_RATIO}),
        ("…", "em xin phép gửi anh", {Alarm.LENGTH_RATIO}),
        # language
        (REFERENCE, "I will fix this bug before the deadline", {Alarm.WRONG_LANGUAGE}),
        (REFERENCE, "I will fix cái bug này before the deadline", set()),
        ("Let's fix the bug before the deadline nhé", "let's fix the bug before the deadline", set()),
        ("Cái deadline đó.", "the deadline", set()),
        (REFERENCE, "Mình sẽ fix 这个 bug này trước", {Alarm.WRONG_LANGUAGE}),
        (REFERENCE, "Мình sẽ fix cái bug này trước", {Alarm.WRONG_LANGUAGE}),
        ("Số π là gì vậy em", "số π là gì vậy anh", set()),
        ("Dày cỡ 5 micromet thôi em", "dày cỡ 5 \u00b5m thôi em", set()),
        (REFERENCE, "Mi\u0300nh se\u0303 ﬁx café cái bug naïve này", set()),
        # sign-offs
        ("Mình họp xong rồi nhé các bạn", "Hãy subscribe cho kênh Ghiền Mì Gõ", {Alarm.SIGN_OFFS}),
        ("Mình họp xong rồi", "Cảm ơn các bạn đã theo dõi!", {Alarm.SIGN_OFFS}),
        ("Cảm ơn các bạn đã theo dõi kênh", "cảm ơn các bạn đã xem kênh", set()),
        ("Mình họp xong rồi cảm ơn các bạn", "Mình họp xong rồi cảm ơn các bạn", set()),
        ("Mình thích watching phim", "Mình thanks for watching phim", {Alarm.SIGN_OFFS}),
        ("Mình thích phim lắm", "Mình đăng ký kênhh phim", set()),
    ],
)
def test_which_texts_raise_which_alarm(reference: str, hypothesis: str, alarms: set[Alarm]) -> None:
    (prediction,) = predictions_of((reference, hypothesis))
    of_texts = {"translations"} if reference.strip() else set()
    expected = {(alarm.value, texts) for alarm in alarms for texts in {"transcripts"} | of_texts}
    assert raised(prediction) == expected


BOTH = Prediction("u", "v", 2.0, "Fix bug này", "Sửa lỗi này")


@pytest.mark.parametrize(
    ("changes", "is_raised"),
    [
        ({"transcript_hypothesis": "fix bug này", "translation_hypothesis": "Fix bug này."}, True),
        ({"transcript_hypothesis": "fix bug này", "translation_hypothesis": "Sửa bug này."}, False),
        ({"transcript_hypothesis": "", "translation_hypothesis": ""}, False),
        ({"transcript_hypothesis": "a", "translation_hypothesis": "a", "translation": "fix bug này!"}, False),
        ({"transcript_hypothesis": "a", "translation_hypothesis": "a", "translation": ""}, False),
        ({"translation_hypothesis": "Fix bug này"}, False),
    ],
)
def test_one_text_for_both_tasks_is_an_alarm_where_the_references_differ(changes, is_raised) -> None:
    of_both = (Alarm.SAME_FOR_BOTH_TASKS.value, "utterances")
    assert (of_both in raised(replace(BOTH, **changes))) == is_raised


def test_a_sign_off_that_was_said_is_none_in_its_translation() -> None:
    said = replace(
        BOTH, transcript="Thanks for watching", translation="Xin cảm ơn", translation_hypothesis=""
    )
    translated = replace(said, translation_hypothesis="Cảm ơn các bạn đã xem")
    assert (Alarm.SIGN_OFFS.value, "translations") not in raised(translated)


def test_a_task_that_was_not_run_raises_nothing() -> None:
    assert raise_alarms([BOTH]) == []
    translated = raise_alarms([replace(BOTH, translation_hypothesis="")])
    assert {count.texts for count in translated} == {"translations"}


def test_the_record_counts_and_gives_the_first_five_examples() -> None:
    fine = predictions_of(*[(REFERENCE, REFERENCE)] * 2)
    empty = predictions_of(*[(REFERENCE, "")] * 6, video_id="w")
    found = alarms_record(raise_alarms([*fine, *empty]))["empty_outputs"]["transcripts"]
    assert (found["num"], found["num_checked"], found["share"]) == (6, 8, 75)
    assert [example["id"] for example in found["examples"]] == ["w-0", "w-1", "w-2", "w-3", "w-4"]


def test_lines_name_what_was_raised_with_an_example_and_can_leave_out_small_shares() -> None:
    looping = predictions_of(("Mình họp", "họp " * 40), *[(REFERENCE, REFERENCE)] * 3)
    record = alarms_record(raise_alarms(looping))
    loops, length = alarm_lines(record)
    assert loops.startswith("Repetition loops: 1 of 4 transcripts and 1 of 4 translations, e.g. v-0 “họp họp")
    assert loops.endswith(" …”.")
    assert len(loops) < 150
    assert length.startswith("Much too short or too long: 1 of 4")
    assert alarm_lines(record, min_share=24.9) == [loops, length]
    assert alarm_lines(record, min_share=25.0) == []


def test_results_hold_the_alarms_and_the_table_shows_those_that_were_raised(tmp_path: Path) -> None:
    with_loop = [replace(PREDICTIONS[0], transcript_hypothesis="họp " * 9), *PREDICTIONS[1:]]
    metrics = read_metrics(write(tmp_path, with_loop)[0])
    assert metrics["alarms"]["repetition_loops"]["transcripts"]["num"] == 1
    assert metrics["alarms"]["repetition_loops"]["translations"]["num"] == 0
    shown = format_results_table(metrics)
    assert "\nRepetition loops: 1 of 3 transcripts, e.g. a-1 “họp họp" in shown
    assert "\nEmpty outputs: 1 of 3 translations, e.g. a-2 “”." in shown
    assert "Sign-off" not in shown
