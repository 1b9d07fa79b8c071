"""Results files: they say all, come back as written, and the printed table says what they say."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vietst.data.tables import read_table
from vietst.errors import VietstError
from vietst.evaluation.metrics import Prediction, score_predictions
from vietst.evaluation.metrics_file import load_results, read_metrics
from vietst.evaluation.predictions_file import read_predictions
from vietst.evaluation.report import Timing, write_results
from vietst.evaluation.results_table import format_results_table
from vietst.evaluation.without_model import baselines
from vietst.evaluation.word_language import WordTag

PREDICTIONS = [
    Prediction("a-1", "a", 2.5, "Mình họp nhé.", "Mình họp nhé.", "mình họp nhé", "Mình họp nhé."),
    Prediction("a-2", "a", 1.5, "Cái deadline là mai", "Cái hạn chót là mai", "cái đét lai là mai", ""),
    Prediction("b-1", "b", 6.0, "Fix bug", "Sửa lỗi", "fix bug", "Sửa lỗi"),
]
TIMING = Timing(latencies_s=[0.1, 0.1, 0.4], compute_s=0.5)

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


def write(folder: Path, predictions: list[Prediction] = PREDICTIONS, **changed: object) -> tuple[Path, Path]:
    transcripts, translations = [p.transcript for p in predictions], [p.translation for p in predictions]
    arguments = {
        "timing": TIMING,
        "facts": {"model": "dev_whisper", "batch_size": 2},
        "baseline_scores": baselines(predictions, transcripts, translations, seed=0),
    } | changed
    return write_results(folder, "dev_whisper", predictions, **arguments)


def test_files_have_the_guides_names_and_lie_alone_in_the_folder(tmp_path: Path) -> None:
    metrics_json, predictions_csv = write(tmp_path / "results")
    assert metrics_json == tmp_path / "results" / "dev_whisper_metrics.json"
    assert predictions_csv == tmp_path / "results" / "dev_whisper_predictions.csv"
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        metrics_json.name,
        predictions_csv.name,
    }


def test_metrics_file_holds_scores_and_what_is_needed_to_judge_them(tmp_path: Path) -> None:
    scores = score_predictions(PREDICTIONS)
    metrics = read_metrics(write(tmp_path)[0])
    assert scores.items() <= metrics.items()
    assert all(0 <= metrics[name] <= 100 for name in ("wer", "cer", "bleu", "chrf"))
    assert metrics["run_name"] == "dev_whisper"
    assert metrics["latency_s"] == pytest.approx({"mean": 0.2, "p50": 0.1, "p95": 0.37})
    assert metrics["real_time_factor"] == pytest.approx(0.05)
    assert metrics["targets"]["wer"] == {"target": "< 15", "value": scores["wer"], "met": scores["wer"] < 15}
    assert metrics["bleu_above_copy"] == scores["bleu"] - metrics["baselines"]["copy"]["bleu"]
    assert metrics["baselines"]["random_training_sentence"].keys() == {"wer", "cer", "bleu", "chrf", "change"}
    assert [(row["video_id"], row["num_utterances"]) for row in metrics["by_video"]] == [("a", 2), ("b", 1)]
    assert metrics["by_video"][1]["wer"] == 0
    assert metrics["code_switching"]["mixed_error_rate"] == scores["wer"]
    assert metrics["code_switching"]["words"]["en"]["error_kinds"] == {"transliterated": 1}
    assert metrics["code_switching"]["intervals"].keys() == {"wer_vietnamese", "pier", "wer_switch_points"}
    assert metrics["facts"] == {"model": "dev_whisper", "batch_size": 2}


def test_a_users_word_tags_decide_the_rates_by_language(tmp_path: Path) -> None:
    tags = {"deadline": WordTag.VIETNAMESE}
    metrics = read_metrics(write(tmp_path, user_tags=tags)[0])
    assert metrics["code_switching"]["words"]["en"]["wer"] == 0


def test_without_transcripts_there_are_no_rates_by_language(tmp_path: Path) -> None:
    translated = [replace(p, transcript_hypothesis=None) for p in PREDICTIONS]
    metrics = read_metrics(write(tmp_path, translated, timing=None)[0])
    assert metrics["code_switching"] is None
    assert "English WER" not in format_results_table(metrics)


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one"), write(tmp_path / "other")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert b"\r" not in one[0].read_bytes() + one[1].read_bytes()


def test_without_timing_and_baselines_their_figures_are_absent(tmp_path: Path) -> None:
    metrics = read_metrics(write(tmp_path, timing=None, baseline_scores=None)[0])
    assert not metrics.keys() & {"latency_s", "real_time_factor", "compute_s"}
    assert metrics["baselines"] == {}
    assert metrics["bleu_above_copy"] is None


def test_predictions_file_has_one_row_per_utterance_with_its_scores(tmp_path: Path) -> None:
    predictions_csv = write(tmp_path)[1]
    assert predictions_csv.read_bytes().startswith(
        b"\xef\xbb\xbfid,video_id,duration_s,transcript,translation,"
    )
    rows = read_table(predictions_csv)
    assert [row["id"] for row in rows] == ["a-1", "a-2", "b-1"]
    assert [row["wer"] for row in rows] == ["0.00", "50.00", "0.00"]
    assert rows[1]["chrf"] == "0.00"
    assert rows[0]["duration_s"] == "2.5"


def test_a_task_that_was_not_run_has_no_column_and_reads_back_as_none(tmp_path: Path) -> None:
    transcribed = [replace(p, translation_hypothesis=None) for p in PREDICTIONS]
    predictions_csv = write(tmp_path, transcribed)[1]
    assert "translation_hypothesis" not in read_table(predictions_csv)[0]
    assert read_predictions(predictions_csv) == transcribed


def test_what_is_known_of_the_recordings_reads_back(tmp_path: Path) -> None:
    known = [replace(p, speaker_id="s", audio_path="a/1.wav", level_dbfs=-23.1) for p in PREDICTIONS]
    predictions = [known[0], replace(known[1], speaker_id="", level_dbfs=None), known[2]]
    metrics_json, predictions_csv = write(tmp_path, predictions)
    assert read_predictions(predictions_csv) == predictions
    assert {"speaker_id", "level_dbfs"} <= read_metrics(metrics_json)["slices"].keys()


def test_a_missing_translation_reads_back_as_not_translated(tmp_path: Path) -> None:
    predictions = [PREDICTIONS[0], replace(PREDICTIONS[1], translation="", translation_hypothesis=None)]
    assert read_predictions(write(tmp_path, predictions)[1]) == predictions


def test_a_hypothesis_missing_for_some_utterances_only_is_refused(tmp_path: Path) -> None:
    predictions = [PREDICTIONS[0], replace(PREDICTIONS[1], transcript_hypothesis=None)]
    with pytest.raises(ValueError, match=r"transcript_hypothesis is missing for 1 utterances .* a-2"):
        write(tmp_path, predictions)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(texts.filter(bool), texts.filter(bool), texts, texts), min_size=1, max_size=4))
@settings(max_examples=50)
def test_any_text_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]
) -> None:
    predictions = [Prediction(str(number), "v", 0.1 + number / 3, *row) for number, row in enumerate(rows)]
    assert read_predictions(write(tmp_path_factory.mktemp("r"), predictions)[1]) == predictions


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(A1)", 'nói "được", nhé', "một\nhai\r\nba", "\n" * 300, " a\tb "]
)
def test_texts_that_programs_like_to_mistake_survive(tmp_path: Path, text: str) -> None:
    predictions = [Prediction("1", "v", 1.0, text, text, text, text)]
    assert read_predictions(write(tmp_path, predictions)[1]) == predictions


def test_nul_becomes_a_replacement_character(tmp_path: Path) -> None:
    path = write(tmp_path, [replace(PREDICTIONS[0], transcript_hypothesis="a\0b")])[1]
    assert read_predictions(path)[0].transcript_hypothesis == "a\ufffdb"
    assert read_table(path)[0]["transcript_hypothesis"] == "a\ufffdb"


def test_other_peoples_predictions_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["extra", "transcript_hypothesis", "translation", "transcript", "duration_s", "video_id", "id"]
        )
        writer.writerow(["x", "hờ", "dịch", "nói", "3", "v", "1"])
    assert read_predictions(path) == [Prediction("1", "v", 3.0, "nói", "dịch", "hờ", None)]


HEADER = b"id,video_id,duration_s,transcript,translation,transcript_hypothesis\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "no id, no video_id"),
        (
            b"id,video_id,duration_s,transcript,translation\n",
            "no transcript_hypothesis or translation_hypothesis",
        ),
        (HEADER + b"1,v,two,a,b,c\n", r"line 2(.|\n)*number of seconds(.|\n)*'two'"),
        (HEADER + b"1,v,nan,a,b,c\n", r"line 2(.|\n)*seconds, 0 or more(.|\n)*'nan'"),
        (HEADER + b"1,v,-2,a,b,c\n", r"line 2(.|\n)*seconds, 0 or more(.|\n)*'-2'"),
        (HEADER + b"1,v,2,a,b\n", "line 2(.|\n)*as many fields"),
        (HEADER + b"1,v,2,a,b,c,d\n", "line 2(.|\n)*as many fields"),
        (HEADER + b'1,v,2,a,b,"c\n', "RFC 4180"),
        (HEADER + b"1,v,2,\xff,b,c\n", "UTF-8"),
    ],
)
def test_unusable_predictions_files_say_what_is_wrong(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "predictions.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VietstError, match=message):
        read_predictions(path)


@pytest.mark.parametrize("content", [None, b"{", b"[1]", b"\xff"])
def test_unusable_metrics_files_say_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x_metrics.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VietstError, match=r"x_metrics\.json"):
        read_metrics(path)


@pytest.mark.parametrize("name", ["", "a/b", "openai/whisper-tiny"])
def test_a_run_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        write_results(tmp_path, name, PREDICTIONS, TIMING, {})


def test_the_table_shows_scores_targets_baselines_set_and_files(tmp_path: Path) -> None:
    metrics_json, predictions_csv = write(tmp_path)
    metrics = read_metrics(metrics_json)
    metrics |= {"audio_s": 5400, "bleu_above_copy": -3.21}
    metrics |= {"wer": 14.321, "cer": 12.0}
    metrics["targets"]["wer"] = {"target": "< 15", "value": 14.321, "met": True}
    metrics["targets"]["cer"] = {"target": "< 10", "value": 12.0, "met": False}
    metrics["intervals"]["wer"] = {"low": 12.5, "high": 16.25}
    metrics["baselines"] = {"copy": {"bleu": 28.3, "chrf": 41.6}, "random_training_sentence": {"wer": 110.0}}
    metrics["baselines"]["whisper-tiny"] = {"wer": 25.5, "note": "whisper-tiny only transcribes."}
    table = format_results_table(metrics, [metrics_json, predictions_csv])
    header, *rows = table.split("\n\n")[1].splitlines()
    names, *systems = table.split("\n\n")[2].splitlines()
    assert table.startswith("dev_whisper: 3 utterances, 2 videos, 1.50 h of audio\n")
    assert header.split() == ["this", "run", "95", "%", "interval", "target"]
    assert [rows[0].split(), rows[3].split()] == [
        ["WER", "%", "14.32", "12.50", "–", "16.25", "<", "15", "met"],
        ["CER", "%", "12.00", "–", "<", "10", "MISSED"],
    ]
    assert names.split()[:11] == ["WER", "%", "as", "written", "%", "num.,", "loan.", "%", "CER", "%", "BLEU"]
    raw, equal = (f"{metrics[name]:.2f}" for name in ("wer_raw", "wer_numbers_loanwords"))
    assert (raw, equal) == ("66.67", "0.00"), "but 'đét lai' for a deadline all is right"
    assert [row.split()[:7] for row in systems] == [
        ["this", "run", "14.32", raw, equal, "12.00", f"{metrics['bleu']:.2f}"],
        ["whisper-tiny", "25.50", "–", "–", "–", "–", "–"],
        ["copy", "–", "–", "–", "–", "28.30", "41.60"],
        ["random", "sentence", "110.00", "–", "–", "–", "–"],
    ]
    assert (
        "Normalizers: WER, as written: none; WER: vietst-1; "
        "WER, numbers and loanwords equal: vietst-1+numbers-4+loanwords-1." in table
    )
    assert table.count("95 % interval: too few videos for an interval: 2, it takes 10.") == 1
    assert [row.split()[0] for row in rows] == [
        *("WER", "WER", "WER", "CER", "BLEU", "chrF", "chrF++", "changed"),
        *("Vietnamese", "English", "switch"),
    ]
    assert rows[-2].split() == [
        "English",
        "WER",
        "%",
        "(PIER)",
        "66.67",
        "–",
    ]  # two edits, three words
    assert len({len(line) for line in (header, *rows)}) == 1
    assert len({len(line) for line in (names, *systems)}) == 1
    assert "whisper-tiny only transcribes." in table
    assert "WER by video: from 0.0 (b) to 28.6 (a)" in table
    assert "BLEU is 3.2 points below the copy baseline" in table
    assert "Latency 0.200 s an utterance (half within 0.100, 95 % within 0.370)" in table
    assert "Real-time factor 0.050" in table
    assert "vietst-1" in table
    assert str(metrics_json) in table
    assert str(predictions_csv) in table


def test_the_table_of_one_task_names_that_task_alone(tmp_path: Path) -> None:
    transcribed = [replace(p, translation_hypothesis=None) for p in PREDICTIONS]
    table = format_results_table(read_metrics(write(tmp_path, transcribed, timing=None)[0]))
    rows = [line.split()[0] for line in table.split("\n\n")[1].splitlines()[1:]]
    assert rows == ["WER", "WER", "WER", "CER", "Vietnamese", "English", "switch"]
    assert "Latency" not in table


def test_the_best_and_the_worst_of_one_video_are_not_told(tmp_path: Path) -> None:
    of_one = [replace(p, video_id="a") for p in PREDICTIONS]
    assert "WER by video" not in format_results_table(read_metrics(write(tmp_path, of_one)[0]))


def test_the_style_that_a_model_was_taught_comes_back_from_its_predictions(tmp_path: Path) -> None:
    plain = [replace(p, text_style="lower_nopunct") for p in PREDICTIONS]
    plain_json, plain_csv = write(tmp_path / "plain", plain)
    assert read_predictions(plain_csv) == plain
    told = "references in text style lower_nopunct"
    assert told in format_results_table(read_metrics(plain_json))
    metrics_json, predictions_csv = write(tmp_path / "as_is")
    assert told not in format_results_table(read_metrics(metrics_json))
    assert "text_style" not in predictions_csv.read_text(encoding="utf-8-sig").splitlines()[0]
    text = (tmp_path / "plain" / predictions_csv.name).read_text(encoding="utf-8-sig")
    predictions_csv.write_text(text.replace("lower_nopunct", "upper"), encoding="utf-8")
    with pytest.raises(VietstError, match="text_style is one of as_is, lower_nopunct"):
        read_predictions(predictions_csv)


def test_metrics_are_valid_json_for_strict_readers(tmp_path: Path) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    facts = {"run": {"losses": [float("nan"), 1.5], "best": float("inf")}}
    text = write(tmp_path, facts=facts)[0].read_text(encoding="utf-8")
    metrics = json.loads(text, parse_constant=refuse)
    assert metrics["facts"] == {"run": {"losses": [None, 1.5], "best": None}}


def test_results_of_a_folder_are_loaded_by_name(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "another_metrics.json").write_text('{"wer": 3.0}', encoding="utf-8")
    assert [run["run_name"] for run in load_results(tmp_path)] == ["another", "dev_whisper"]
    assert load_results(tmp_path / "nothing") == []
