"""Scores by slice: who belongs where, and that each slice has the scores of its utterances alone."""

from dataclasses import replace

import pytest

from vietst.evaluation.code_switching import count_errors_of, error_rates
from vietst.evaluation.metrics import Prediction, count_scores, score_predictions
from vietst.evaluation.slices import SLICE_SCORES, scores_by_slice

TEXTS = [
    ("được rồi nhé", "được rồi nhé", "được rồi nhé"),  # no English: code-mixing index 0
    ("mình sẽ làm xong cái bug này", "mình sẽ làm xong cái lỗi này", "mình sẽ làm xong cái bất này"),  # 14.3
    ("mình fix cái này", "mình sửa cái này", "mình phích cái này"),  # 25
    ("fix bug nhé", "sửa lỗi nhé", "fix bug nha"),  # 33.3
]
DURATIONS_S = (2.0, 2.5, 12.0, 30.0)
LEVELS_DBFS = (-45.0, -23.0, -23.0, -12.0)


def predictions(num_videos: int = 12) -> list[Prediction]:
    """Each video has the four texts; the errors of the second text differ between videos."""
    return [
        Prediction(
            f"{video}-{number}",
            f"video_{video:02d}",
            DURATIONS_S[number],
            transcript,
            translation,
            transcript if number == 1 and video % 2 else hypothesis,
            translation if video % 3 else transcript,
            speaker_id=f"speaker_{video % 2}",
            level_dbfs=LEVELS_DBFS[number],
        )
        for video in range(num_videos)
        for number, (transcript, translation, hypothesis) in enumerate(TEXTS)
    ]


def slices_of(all_predictions: list[Prediction]) -> dict[str, dict[str, dict[str, object]]]:
    slices = scores_by_slice(all_predictions, count_scores(all_predictions), count_errors_of(all_predictions))
    return {dimension: {str(row["slice"]): row for row in rows} for dimension, rows in slices.items()}


def test_bins_and_ids_are_in_order_and_every_utterance_stands_once_in_each_dimension() -> None:
    slices = slices_of(predictions())
    assert {dimension: list(rows) for dimension, rows in slices.items()} == {
        "code_mixing_index": ["0", "0 to 15", "15 to 30", "> 30"],
        "duration_s": ["≤ 2", "2 to 5", "10 to 20", "> 20"],  # none from 5 to 10 s
        "level_dbfs": ["≤ −40", "−30 to −20", "> −20"],
        "video_id": [f"video_{video:02d}" for video in range(12)],
        "speaker_id": ["speaker_0", "speaker_1"],
    }
    for rows in slices.values():
        assert sum(row["num_utterances"] for row in rows.values()) == 48
        assert sum(row["audio_s"] for row in rows.values()) == pytest.approx(12 * sum(DURATIONS_S))


def test_a_slice_has_the_scores_of_its_utterances_alone() -> None:
    chosen = [p for p in predictions() if p.speaker_id == "speaker_1"]
    row = slices_of(predictions())["speaker_id"]["speaker_1"]
    alone = score_predictions(chosen) | error_rates(count_errors_of(chosen))
    assert {name: row[name] for name in SLICE_SCORES} == pytest.approx(
        {name: alone[name] for name in SLICE_SCORES}
    )
    assert row["num_videos"] == 6


def test_what_a_slice_has_nothing_of_has_no_score_there() -> None:
    of_vietnamese = slices_of(predictions())["code_mixing_index"]["0"]
    assert of_vietnamese["wer"] == 0
    assert "pier" not in of_vietnamese, "no English word"
    assert "change" not in of_vietnamese, "nothing was to be translated"


def test_intervals_stand_where_ten_videos_are() -> None:
    slices = slices_of(predictions())
    interval = slices["code_mixing_index"]["0 to 15"]["intervals"]["pier"]
    assert interval["low"] < slices["code_mixing_index"]["0 to 15"]["pier"] < interval["high"]
    assert slices["speaker_id"]["speaker_0"]["intervals"] == {}
    assert all(row["intervals"] == {} for row in slices_of(predictions(9))["duration_s"].values())


def test_speakers_and_levels_are_absent_where_nobody_said_them() -> None:
    unknown = [replace(p, speaker_id="", level_dbfs=None) for p in predictions()]
    assert slices_of(unknown).keys() == {"code_mixing_index", "duration_s", "video_id"}


def test_sources_are_scored_apart_where_there_are_several() -> None:
    mixed = [replace(p, data_source="own" if p.id.startswith("1") else "english") for p in predictions()]
    rows = slices_of(mixed)["data_source"]
    assert {name: row["num_utterances"] for name, row in rows.items()} == {"english": 36, "own": 12}
    own = [p for p in mixed if p.data_source == "own"]
    assert rows["own"]["wer"] == score_predictions(own)["wer"]


def test_verified_and_other_texts_are_scored_apart_where_any_is_known() -> None:
    said = {"0": "true", "1": "false", "2": "", "3": "true"}
    known = [replace(p, verified=said[p.id.split("-")[1]]) for p in predictions()]
    rows = slices_of(known)["verified"]
    assert {name: row["num_utterances"] for name, row in rows.items()} == {"verified": 24, "not verified": 24}
    chosen = [p for p in known if p.verified == "true"]
    assert rows["verified"]["wer"] == pytest.approx(score_predictions(chosen)["wer"])
    assert rows["verified"]["wer"] != rows["not verified"]["wer"]
    assert "verified" not in slices_of(predictions())


def test_utterances_that_were_only_translated_are_mixed_as_much() -> None:
    translated = [replace(p, transcript_hypothesis=None) for p in predictions()]
    slices = slices_of(translated)
    assert list(slices["code_mixing_index"]) == ["0", "0 to 15", "15 to 30", "> 30"]
    assert {"bleu", "change"} <= slices["code_mixing_index"]["> 30"].keys()
    assert not {"wer", "pier"} & slices["code_mixing_index"]["> 30"].keys()
