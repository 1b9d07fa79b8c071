"""The real script on predictions files: what it prints and writes, and what it refuses."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.script_runs import run_script

COLUMNS = ("id", "video_id", "duration_s", "transcript", "translation")
REFERENCE = ("mình sẽ fix cái bug này", "mình sẽ sửa cái lỗi này")


def write_predictions(
    path: Path, transcripts: Callable[[int], str], num_videos: int = 12, **columns: Callable[[int], str]
) -> Path:
    """Two utterances a video, all with the same references; hypotheses by utterance number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hypotheses = {"transcript_hypothesis": transcripts, **columns}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *hypotheses])
        for number in range(2 * num_videos):
            row = [f"u{number}", f"v{number // 2}", 2.5, *REFERENCE]
            writer.writerow([*row, *(hypothesis(number) for hypothesis in hypotheses.values())])
    return path


def right(number: int) -> str:
    return REFERENCE[0]


def one_word_wrong(number: int) -> str:
    return "mình sẽ phích cái bug này" if number % 3 else REFERENCE[0]


def test_a_better_run_is_named_and_written_down(tmp_path: Path) -> None:
    results = tmp_path / "outputs" / "results"
    write_predictions(results / "first_predictions.csv", one_word_wrong)
    write_predictions(results / "second_predictions.csv", right)
    ran = run_script("compare_runs.py", tmp_path, "first", "second", "--audio")
    assert ran.returncode == 0, ran.stderr
    assert "24 utterances, 12 videos in common" in ran.stdout
    row = next(line for line in ran.stdout.splitlines() if line.strip().startswith("WER %"))
    assert "B is better" in row
    assert "11.11" in row, "one word of six in two of three utterances"
    record = json.loads((results / "first_vs_second_comparison.json").read_text(encoding="utf-8"))
    wer = record["scores"]["wer"]
    assert wer["difference"] == pytest.approx(-100 / 9)
    assert wer["interval"]["low"] < wer["difference"] < wer["interval"]["high"]
    assert wer["p_value"] < 0.05
    assert "bleu" not in record["scores"], "neither was asked to translate"
    assert record["scores"]["pier"]["a"] == pytest.approx(100 / 3), (
        "every second English word in two of three"
    )
    assert record["scores"]["wer_vietnamese"]["difference"] == 0
    assert record["alarms"]["a"]["empty_outputs"]["transcripts"]["num_checked"] == 24
    report = (results / "first_vs_second_report.html").read_text(encoding="utf-8")
    assert "No player: the predictions file does not name the audio." in report
    assert "second has fewer word errors in 16 transcripts of 24" in " ".join(report.split())


def test_a_word_list_decides_the_rates_by_language(tmp_path: Path) -> None:
    a = write_predictions(tmp_path / "a.csv", one_word_wrong)
    b = write_predictions(tmp_path / "b.csv", right)
    words = tmp_path / "words.tsv"
    words.write_text("fix\tvi\nbug\tvi\n", encoding="utf-8")
    ran = run_script("compare_runs.py", tmp_path, str(a), str(b), "--word_tags", str(words))
    assert ran.returncode == 0, ran.stderr
    assert "Vietnamese WER %" in ran.stdout
    assert "English WER %" not in ran.stdout


def test_no_difference_shown_is_said_where_none_is(tmp_path: Path) -> None:
    """Each run is wrong in other utterances, equally often."""
    a = write_predictions(tmp_path / "a.csv", lambda n: "x" if n % 4 == 0 else REFERENCE[0])
    b = write_predictions(tmp_path / "b.csv", lambda n: "x" if n % 4 == 2 else REFERENCE[0])
    ran = run_script("compare_runs.py", tmp_path, str(a), str(b))
    assert ran.returncode == 0, ran.stderr
    assert (
        ran.stdout.count("no difference shown") == 7
    )  # WER three times, CER; Vietnamese, English, at switches
    assert "is better" not in ran.stdout


def test_convention_is_told_from_hearing_and_a_plainer_style_is_no_disadvantage(tmp_path: Path) -> None:
    cased = "Mình sẽ fix cái bug này."
    a = write_predictions(tmp_path / "a.csv", lambda n: cased, text_style=lambda n: "as_is")
    b = write_predictions(tmp_path / "b.csv", one_word_wrong, text_style=lambda n: "lower_nopunct")
    ran = run_script("compare_runs.py", tmp_path, str(a), str(b))
    assert ran.returncode == 0, ran.stderr
    assert "WER, numbers and loanwords equal: vietst-1+numbers-4+loanwords-1" in ran.stdout
    record = json.loads((tmp_path / "outputs/results/a_vs_b_comparison.json").read_text(encoding="utf-8"))
    assert record["wer_normalizers"]["wer_raw"] == "none"
    assert (record["scores"]["wer_raw"]["a"], record["scores"]["wer"]["a"]) == (0, 0), "both are lower case"
    told = "Both are compared in text style lower_nopunct"
    assert told in ran.stdout
    assert told in (tmp_path / "outputs/results/a_vs_b_report.html").read_text(encoding="utf-8")
    same = write_predictions(tmp_path / "same.csv", lambda n: cased)
    assert "text style" not in run_script("compare_runs.py", tmp_path, str(same), str(a)).stdout
    record = json.loads((tmp_path / "outputs/results/same_vs_a_comparison.json").read_text(encoding="utf-8"))
    assert record["scores"]["wer_raw"]["a"] == pytest.approx(200 / 6), "case and full stop, as they are"


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ("third", "neither; runs with results there: first, second"),
        ("outputs/results/first_predictions.csv", "first_predictions.csv, twice"),
    ],
)
def test_a_run_that_is_not_there_or_the_same_is_refused(tmp_path: Path, other: str, found: str) -> None:
    for run in ("first", "second"):
        write_predictions(tmp_path / "outputs" / "results" / f"{run}_predictions.csv", right)
    ran = run_script("compare_runs.py", tmp_path, "first", other)
    assert ran.returncode == 2
    assert found in ran.stderr
    assert not list((tmp_path / "outputs" / "results").glob("*_vs_*"))


def test_too_few_videos_are_said_instead_of_a_verdict(tmp_path: Path) -> None:
    a = write_predictions(tmp_path / "a.csv", one_word_wrong, num_videos=9)
    b = write_predictions(tmp_path / "b.csv", right, num_videos=9)
    ran = run_script("compare_runs.py", tmp_path, str(a), str(b))
    assert ran.returncode == 0, ran.stderr
    assert "too few videos for an interval: 9" in ran.stdout
    assert "better" not in ran.stdout


def test_utterances_of_one_file_only_are_left_out_and_counted(tmp_path: Path) -> None:
    a = write_predictions(tmp_path / "a.csv", one_word_wrong, num_videos=14)
    b = write_predictions(tmp_path / "b.csv", right, num_videos=12)
    ran = run_script("compare_runs.py", tmp_path, str(a), str(b))
    assert "24 utterances, 12 videos in common; 4 in one file only, left out" in ran.stdout


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda text: text.replace("u0,v0", "u0,v7"), "both were scored on the same video_id"),
        (lambda text: text.replace("lỗi này", "lỗi đó", 1), "both were scored on the same translation"),
        (lambda text: text.replace("u1,", "u0,"), "every utterance has an id of its own"),
        (lambda text: text.replace("u", "w"), "a task that both runs were asked for"),
    ],
    ids=["other video", "other reference", "id twice", "nothing in common"],
)
def test_files_that_cannot_be_paired_are_refused_in_words(
    tmp_path: Path, change: Callable[[str], str], rule: str
) -> None:
    a = write_predictions(tmp_path / "a.csv", right)
    b = write_predictions(tmp_path / "b.csv", right)
    rows = b.read_text(encoding="utf-8").splitlines(keepends=True)
    b.write_text(rows[0] + change("".join(rows[1:])), encoding="utf-8")
    ran = run_script("compare_runs.py", tmp_path, str(a), str(b))
    assert ran.returncode == 2
    assert rule in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_unknown_run_is_refused_in_words(tmp_path: Path) -> None:
    ran = run_script("compare_runs.py", tmp_path, "nobody", "nothing")
    assert ran.returncode == 2
    assert "nobody" in ran.stderr
