"""What thresholds drop, and the worst rows: against a plain recount of the table."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from tests.audit.made_up_audit import SIGNAL_RECORDS, made_up_rows
from vietst.audit import clauses
from vietst.audit.clauses import NUM_NEAR, NUM_WORST, AuditedRow, Clause, duration_s
from vietst.audit.counting import Counts, count_rows
from vietst.audit.drop_expression import DropExpression
from vietst.audit.threshold_steps import MAX_STEPS, threshold_steps

SUGGESTED = {
    "wer": "wer > 0.25 and silence > 0.3",
    "speech": "speech < 0.6",
    "silence": "silence > 0.40",
    "syllable_rate_z": "syllable_rate_z > 5 or syllable_rate_z < -5",
    "duplicate_of": "duplicate_of",
    "number_mismatch": "number_mismatch > 0",
}
RECORDS = [record | {"suggested": SUGGESTED.get(record["name"])} for record in SIGNAL_RECORDS]
ROWS = [AuditedRow(cells, texts, number) for number, (cells, texts) in enumerate(made_up_rows(900))]


@pytest.fixture(scope="module")
def counts() -> Counts:
    return count_rows(lambda: iter(ROWS), RECORDS)


def of(counts: Counts, signal: str, sign: str = ">") -> Clause:
    """The one without a condition."""
    (clause,) = (c for c in counts.clauses if (c.signal, c.sign, c.condition) == (signal, sign, ""))
    return clause


def test_each_step_drops_what_its_expression_drops(counts: Counts) -> None:
    """Also at values that equal a threshold, and where nothing was measured."""
    for clause in counts.clauses:
        for step in {*range(0, len(clause.steps), 7), clause.suggested or 0}:
            drops = DropExpression(clause.expression(step)).drops
            dropped = [audited for audited in ROWS if drops(audited.row)]
            num_rows, seconds = clause.dropped(step)
            assert num_rows == len(dropped), clause.expression(step)
            assert seconds == pytest.approx(sum(audited.duration_s for audited in dropped))


def test_steps_drop_less_and_less_and_hold_what_is_suggested(counts: Counts) -> None:
    for clause in counts.clauses:
        dropped = [clause.dropped(step)[0] for step in range(len(clause.steps))]
        assert dropped == sorted(dropped, reverse=True)
    suggested = {
        clause.expression(clause.suggested) for clause in counts.clauses if clause.suggested is not None
    }
    assert suggested == {
        *("wer > 0.25 and silence > 0.3", "speech < 0.6", "silence > 0.4", "duplicate_of"),
        *("syllable_rate_z > 5", "syllable_rate_z < -5", "number_mismatch > 0"),
    }


def test_rows_beyond_any_suggested_threshold_are_counted_once(counts: Counts) -> None:
    texts = [record["suggested"] for record in RECORDS if record["suggested"]]
    drops = DropExpression(" or ".join(texts)).drops
    outstanding = [audited for audited in ROWS if drops(audited.row)]
    assert 0 < counts.num_outstanding == len(outstanding) < len(ROWS)
    assert counts.outstanding_s == pytest.approx(sum(audited.duration_s for audited in outstanding))
    of_videos = [video.num_outstanding for video in counts.videos.values()]
    assert sum(of_videos) == len(outstanding)


@pytest.mark.parametrize(("signal", "sign"), [("silence", ">"), ("speech", "<"), ("level_dbfs", "<")])
def test_the_worst_are_the_worst_and_of_equal_ones_the_longest(
    signal: str, sign: str, counts: Counts
) -> None:
    measured = [audited for audited in ROWS if audited.row[signal]]
    direction = -1 if sign == ">" else 1
    measured.sort(key=lambda audited: (direction * float(audited.row[signal]), -audited.duration_s))
    worst = of(counts, signal, sign).worst.rows
    assert [audited.number for audited in worst] == [audited.number for audited in measured[:NUM_WORST]]


def test_rows_that_are_not_worse_than_half_of_all_are_none_of_the_worst(counts: Counts) -> None:
    assert {audited.row["number_mismatch"] for audited in of(counts, "number_mismatch").worst.rows} <= {
        "1",
        "2",
    }
    rows = [audited for audited in ROWS if audited.row["wer"] == "0"]
    assert of(count_rows(lambda: iter(rows), RECORDS), "wer").worst.rows == []


def test_rows_near_a_suggested_threshold_are_the_nearest_on_both_sides(counts: Counts) -> None:
    near = [float(audited.row["silence"]) for audited in of(counts, "silence").near]
    values = sorted(float(audited.row["silence"]) for audited in ROWS)
    beyond = [value for value in values if value > 0.4]
    assert near[:NUM_NEAR] == list(reversed(beyond[:NUM_NEAR]))
    assert near[NUM_NEAR:] == [value for value in values if value <= 0.4][-NUM_NEAR:]


def test_rows_where_the_condition_does_not_hold_are_none_of_the_worst(counts: Counts) -> None:
    (clause,) = (clause for clause in counts.clauses if clause.condition)
    assert clause.expression(clause.suggested or 0) == SUGGESTED["wer"]
    assert clause.worst.rows
    assert clause.near
    assert all(float(audited.row["silence"]) > 0.3 for audited in (*clause.worst.rows, *clause.near))


def test_a_suggested_expression_of_another_form_is_a_clause_of_its_own() -> None:
    expression = "wer > 0.2 and (silence > 0.3 or speech < 0.5)"
    records = [record | ({"suggested": expression} if record["name"] == "wer" else {}) for record in RECORDS]
    clause = of(count_rows(lambda: iter(ROWS), records), "wer", "")
    dropped = [audited for audited in ROWS if DropExpression(expression).drops(audited.row)]
    assert clause.dropped(0)[0] == len(dropped) > 0
    assert {audited.number for audited in clause.worst.rows} == {audited.number for audited in dropped}


def test_all_rows_of_a_small_table_are_drawn_and_of_a_large_one_each_as_likely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["duration"]

    def rows(num_rows: int) -> Iterator[dict[str, str]]:
        return ({"duration": str(number)} for number in range(num_rows))

    assert [row["duration"] for row in clauses.Survey.of(rows(50), names, names).sampled] == [
        str(number) for number in range(50)
    ]
    monkeypatch.setattr(clauses, "NUM_SAMPLED", 1000)
    survey = clauses.Survey.of(rows(20_000), names, names)
    drawn = survey.values("duration")
    assert len(set(drawn.tolist())) == 1000
    assert np.histogram(drawn, bins=10, range=(0, 20_000))[0] == pytest.approx([100] * 10, abs=40)


def test_memory_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clauses, "NUM_SAMPLED", 200)

    def peak_bytes(num_rows: int) -> int:
        def rows() -> Iterator[AuditedRow]:
            made_up = made_up_rows(num_rows)
            return (
                AuditedRow(cells, texts | {"video_id": "v"}, number)
                for number, (cells, texts) in enumerate(made_up)
            )

        tracemalloc.start()
        count_rows(rows, RECORDS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(8000) < 1.25 * peak_bytes(4000)


# --- thresholds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "suggested"),
    [
        (np.linspace(0, 1, 1000), ["0.7"]),
        (np.linspace(0, 1, 1000), ["0.333"]),
        (np.zeros(100), ["0.5"]),
        (np.zeros(1), []),
        (np.linspace(-60, -3, 1000), ["-35.5", "-8"]),
        (np.linspace(1e-6, 9e-6, 1000), []),
        (np.linspace(0, 123_456, 1000), []),
    ],
)
def test_thresholds_rise_span_the_values_and_hold_what_is_suggested(
    values: np.ndarray, suggested: list[str]
) -> None:
    steps = threshold_steps(values, values.min(), values.max(), suggested)
    numbers = [float(step) for step in steps]
    assert all(low < high for low, high in pairwise(numbers))
    assert 2 <= len(steps) <= MAX_STEPS + 5 < clauses.NOT_MEASURED
    assert numbers[0] <= values.min()
    assert numbers[-1] >= values.max()
    assert set(steps) >= set(suggested)
    assert not any("e" in step.lower() for step in steps), "an expression is read by people"


def test_counts_have_whole_thresholds() -> None:
    assert threshold_steps(np.array([0.0, 0.0, 1.0, 4.0]), 0.0, 4.0) == ["0", "1", "2", "3", "4"]


def test_single_values_far_off_do_not_squeeze_the_others() -> None:
    values = np.append(np.linspace(0, 1, 5000), 1000.0)
    steps = threshold_steps(values, 0.0, 1000.0, ["0.7"])
    assert 1 <= float(steps[-1]) < 2
    assert float(steps[1]) - float(steps[0]) <= 0.02


def test_an_unreadable_clip_has_no_length() -> None:
    assert duration_s({"duration": ""}) == 0
