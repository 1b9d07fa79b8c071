"""HTML reports: complete in themselves, true to their files, safe whatever the texts hold."""

import html
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM
from tests.html_page import Page
from tests.patience import HANGS_AFTER_S
from vietst.evaluation.compare import compare_runs, write_comparison
from vietst.evaluation.history import History
from vietst.evaluation.html_report import (
    NUM_DIFFERENT,
    write_comparison_report,
    write_reports,
    write_run_report,
)
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.metrics_file import read_metrics
from vietst.evaluation.predictions_file import write_predictions
from vietst.evaluation.report import write_results
from vietst.evaluation.report_tables import KIND_LABELS, MAX_ROWS
from vietst.evaluation.shown_utterances import NUM_RANDOM, NUM_WORST
from vietst.evaluation.without_model import baselines

HOSTILE = "</p><script>alert('x')</script> \"quoted\" & 'more' <img src=x onerror=alert(1)>"
HISTORY = History(
    "run",
    [
        {"step": 10, "loss": 5.0},
        {"step": 10, "eval_loss": 4.0, "eval_wer": 88.25, "eval_bleu": 3.5},
        {"step": 20, "loss": 2.0},
        {"step": 20, "eval_loss": 1.5, "eval_wer": 41.75, "eval_bleu": 33.5},
    ],
)


def predictions(num_videos: int = 12, **changed: Any) -> list[Prediction]:
    """Five utterances a video: right ones, and ones with errors, fewer in each fourth video."""
    texts = [
        ("được rồi nhé", "được rồi nhé", "được rồi nhé", "được rồi nhé"),
        ("mình fix cái bug này", "mình sửa cái lỗi này", "mình phích cái bất nay", "mình sửa cái bug này"),
        ("deadline là thứ sáu", "hạn chót là thứ sáu", "hạn chót là thứ sáu ạ", "hạn chót là thứ sáu"),
        ("anh Nam đi họp meeting", "anh Nam đi họp", "anh nam họp mít tinh", ""),
        (HOSTILE, HOSTILE, f"{HOSTILE} thêm", HOSTILE),
    ]
    better = [(transcript, translation, transcript, translation) for transcript, translation, *_ in texts[:2]]
    rows = [
        Prediction(
            *(f"u{video}-{number}", f"v{video:02d}", 2.0 + number, *row),
            speaker_id=f"s{video % 3}",
            audio_path=f"v{video:02d}/{number} a.wav",
            level_dbfs=-20.0 - 5 * number,
        )
        for video in range(num_videos)
        for number, row in enumerate(texts if video % 4 else [*better, *texts[2:]])
    ]
    return [replace(row, **changed) for row in rows]


def write(folder: Path, rows: list[Prediction], name: str = "run") -> Path:
    facts = {
        "model": "/home/somebody/outputs/run",
        "run": {"base_model": "C:\\models\\tiny", "split_hash": "sha256:103a", "notes": HOSTILE},
        "environment": {"packages": {"torch": "2.13.0"}},
    }
    texts = [p.transcript for p in rows], [p.translation for p in rows]
    return write_results(folder, name, rows, None, facts, baselines(rows, *texts, seed=1))[0]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with audio, history and everything, and a comparison with a worse one."""
    folder = tmp_path_factory.mktemp("report") / "outputs" / "results"
    audio_root = folder.parents[1] / "audio files"
    for row in predictions():
        path = audio_root / row.audio_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")
    write_run_report(write(folder, predictions()), [HISTORY], audio_root)
    worse = [replace(p, transcript_hypothesis=f"{p.transcript_hypothesis} sai") for p in predictions()]
    worse[4] = replace(worse[4], transcript_hypothesis=f"{HOSTILE} thanks for watching")
    write(folder, worse, "worse")
    paths = folder / "run_predictions.csv", folder / "worse_predictions.csv"
    comparison_json = folder / "run_vs_worse_comparison.json"
    write_comparison(compare_runs(*paths), comparison_json)
    write_comparison_report(comparison_json, *paths, audio_root)
    return folder


@pytest.fixture(params=["run_report.html", "run_vs_worse_report.html"])
def page(request: pytest.FixtureRequest, results: Path) -> Page:
    return Page(results / request.param)


def test_texts_cannot_become_markup(page: Page) -> None:
    assert not {"script", "iframe", "object", "link", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in html.unescape(page.source), "shown as it is"


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    allowed = re.compile(r"#\w|data:image/png;base64,|\.\./\.\./audio%20files/|$")
    for tag, attributes in page.tags:
        for name in ("src", "href", "poster", "srcset", "data", "action"):
            value = attributes.get(name) or ""
            assert allowed.match(value), f"{tag} {name} {value[:60]}"
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_it_is_well_formed_and_says_its_languages(page: Page) -> None:
    assert page.source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert all(attributes.get("alt") for attributes in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{identity}" for identity in ids} >= {attributes["href"] for attributes in page.all("a")}
    assert {"vi", "en"} <= {attributes.get("lang") for _, attributes in page.tags}


def test_headings_are_in_order(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))


def test_numbers_are_those_of_the_json_file(results: Path) -> None:
    page, metrics = Page(results / "run_report.html"), read_metrics(results / "run_metrics.json")
    shown = [metrics[name] for name in ("wer", "cer", "bleu", "chrf", "change")]
    shown += [metrics["code_switching"][name] for name in ("pier", "wer_vietnamese", "wer_switch_points")]
    shown += [row["wer"] for row in metrics["code_switching"]["words"].values() if row["wer"] is not None]
    shown += [HISTORY.entries[1]["eval_wer"], HISTORY.entries[3]["eval_bleu"]]
    for number in shown:
        assert f"{number:.2f}" in page.cells
    interval = metrics["intervals"]["wer"]
    assert f"{interval['low']:.2f} – {interval['high']:.2f}" in page.cells
    for rows in metrics["slices"].values():
        for row in rows:
            between = row["intervals"].get("wer")
            brackets = f" ({between['low']:.2f} – {between['high']:.2f})" if between else ""
            assert f"{row['wer']:.2f}{brackets}" in page.cells
    assert {"reference": "bug", "written": "bất", "num": 9} in metrics["code_switching"]["confusions"]["en"]
    start = page.cells.index("bug")
    assert page.cells[start : start + 3] == ["bug", "bất", "9"]


def test_differences_are_those_of_the_json_file(results: Path) -> None:
    page = Page(results / "run_vs_worse_report.html")
    record = json.loads((results / "run_vs_worse_comparison.json").read_text(encoding="utf-8"))
    wer = record["scores"]["wer"]
    start = page.cells.index("WER %")
    assert page.cells[start + 1 : start + 4] == [
        f"{wer['a']:.2f}",
        f"{wer['b']:.2f}",
        f"{wer['difference']:+.2f}",
    ]
    assert page.cells[start + 6] == wer["verdict"] == "A is better"
    assert "run has fewer word errors in 60 transcripts of 60" in page.text
    assert "worse has fewer word errors in 0 transcripts of 60." in page.text


def test_the_worst_and_random_utterances_are_aligned_with_the_kind_of_every_error(results: Path) -> None:
    page = Page(results / "run_report.html")
    assert len(page.all("article")) == NUM_WORST + NUM_RANDOM
    assert "fix phích spelt by sound" in page.text, "not by colour alone"
    assert "deadline chót translated" in page.text
    assert "này nay tone" in page.text
    first = page.source.partition("<article>")[2].partition("</article>")[0]
    worst = max(row["wer"] for row in read_metrics(results / "run_metrics.json")["by_video"])
    assert float(re.search(r"WER % ([\d.]+)", first)[1]) > worst


def test_every_kind_of_error_has_a_colour_or_the_default(repo_root: Path) -> None:
    style = (repo_root / "vietst" / "templates" / "report.css").read_text(encoding="utf-8")
    styled = {name for name in KIND_LABELS if re.search(rf"\.{name}\b[^{{]*{{ background:", style)}
    assert set(KIND_LABELS) - styled == {"vietnamese_word", "english_word", "other_word", "different"}


def test_absolute_paths_of_the_maker_are_not_shown(results: Path) -> None:
    page = Page(results / "run_report.html")
    assert "/home/somebody" not in page.source
    assert "C:\\models" not in page.source
    assert page.cells[page.cells.index("run, base model") + 1] == "tiny"
    assert page.cells[page.cells.index("run, split hash") + 1] == "sha256:103a"


def test_players_link_to_audio_relative_to_the_report(results: Path) -> None:
    players = Page(results / "run_report.html").all("audio")
    assert len(players) == NUM_WORST + NUM_RANDOM
    assert "../../audio%20files/v00/1%20a.wav" in {player["src"] for player in players}
    players = Page(results / "run_vs_worse_report.html").all("audio")
    assert len(players) == NUM_DIFFERENT
    assert all(str(player["src"]).startswith("../../audio%20files/v") for player in players)


def test_a_comparison_takes_the_audio_from_the_run_that_names_it(tmp_path: Path) -> None:
    """Predictions from elsewhere know nothing of it."""
    (tmp_path / "v00").mkdir()
    (tmp_path / "v00" / "1 a.wav").write_bytes(b"RIFF")
    theirs = [replace(p, transcript_hypothesis="sai", audio_path="") for p in predictions(1)]
    write(tmp_path, theirs, "a")
    write(tmp_path, predictions(1), "b")
    paths = tmp_path / "a_predictions.csv", tmp_path / "b_predictions.csv"
    write_comparison(compare_runs(*paths), tmp_path / "a_vs_b_comparison.json")
    page = Page(write_comparison_report(tmp_path / "a_vs_b_comparison.json", *paths, tmp_path))
    assert [player["src"] for player in page.all("audio")] == ["v00/1%20a.wav"]
    assert "No player: not found below the audio root." in page.text


def test_alarms_of_both_runs_stand_beside_each_other_with_an_example(results: Path) -> None:
    page = Page(results / "run_vs_worse_report.html")
    start = page.cells.index("Sign-off phrases nobody said")
    assert page.cells[start + 1 : start + 4] == ["transcripts", "0 of 60", "1 of 60"]
    examples = page.text.partition("Examples of worse")[2].partition("Utterances")[0]
    assert "Sign-off phrases nobody said: 1 of 60 transcripts, e.g. u0-4 “</p><script>" in examples


def test_a_comparison_from_before_alarms_were_compared_has_a_report(results: Path, tmp_path: Path) -> None:
    for name in ("run_predictions.csv", "worse_predictions.csv", "run_vs_worse_comparison.json"):
        shutil.copy(results / name, tmp_path)
    path = tmp_path / "run_vs_worse_comparison.json"
    comparison = json.loads(path.read_text(encoding="utf-8"))
    del comparison["alarms"]
    path.write_text(json.dumps(comparison), encoding="utf-8")
    (report,) = write_reports(tmp_path, tmp_path).written
    assert "Alarms" not in Page(report).text


def test_baselines_stand_below_the_run_with_what_must_be_said_about_them(tmp_path: Path) -> None:
    metrics_json = write(tmp_path, predictions())
    metrics = read_metrics(metrics_json)
    note = f"{HOSTILE} stands here without scores."
    metrics["baselines"] |= {"whisper-tiny": {"wer": 43.21, "pier": 65.4}, HOSTILE: {"note": note}}
    metrics_json.write_text(json.dumps(metrics), encoding="utf-8")
    page = Page(write_run_report(metrics_json))
    rows = [page.cells.index(name) for name in ("this run", "whisper-tiny", HOSTILE, "copy")]
    assert rows == sorted(rows)
    assert page.cells[rows[1] + 1 : rows[1] + 4] == ["43.21", "–", "–"]
    assert "65.40" in page.cells[rows[1] :]
    assert " ".join(note.split()) in page.text


@pytest.mark.parametrize(
    ("audio_path", "why"),
    [
        ("../secret.wav", "the path leads out of the audio root"),
        ("/secret.wav", "the path leads out of the audio root"),
        ("gone.wav", "not found below the audio root"),
        ("", "the predictions file does not name the audio"),
    ],
)
def test_no_player_leads_out_of_the_audio_root(audio_path: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    (tmp_path / "audio").mkdir()
    metrics_json = write(tmp_path / "results", predictions(1, audio_path=audio_path))
    page = Page(write_run_report(metrics_json, audio_root=tmp_path / "audio"))
    assert page.all("audio") == []
    assert f"No player: {why}." in page.text


def test_without_being_asked_there_are_no_players(tmp_path: Path) -> None:
    page = Page(write_run_report(write(tmp_path, predictions(1))))
    assert page.all("audio") == []
    assert "No player" not in page.text


@pytest.mark.parametrize("task", ["transcript", "translation"])
def test_a_run_with_one_task_has_a_report(task: str, tmp_path: Path) -> None:
    other = {"transcript": "translation", "translation": "transcript"}[task]
    page = Page(write_run_report(write(tmp_path, predictions(3, **{f"{other}_hypothesis": None}))))
    assert {text.strip() for text in page.texts} & {"Transcript", "Translation"} == {task.capitalize()}
    assert ("BLEU" in page.cells) == (task == "translation")
    assert ("English WER % (PIER)" in page.cells) == (task == "transcript")
    assert ("with the highest WER" in page.text) == (task == "transcript")


def test_a_translation_without_a_reference_is_shown_and_not_called_wrong(tmp_path: Path) -> None:
    rows = [*predictions(1), Prediction("alone", "v", 1.0, "fix", "", "fix", "sửa lại giúp nhé")]
    page = Page(write_run_report(write(tmp_path, rows)))
    shown = page.source.partition("<h4>alone</h4>")[2].partition("</article>")[0]
    assert "Translation, without a reference" in shown
    assert "sửa lại giúp nhé" in shown
    assert "extra" not in shown


def test_of_many_videos_the_worst_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    page = Page(write_run_report(write(tmp_path, predictions(MAX_ROWS + 3))))
    ids = [cell for cell in page.cells if re.fullmatch(r"v\d\d", cell)]
    better = {f"v{video:02d}" for video in range(0, MAX_ROWS + 3, 4)}
    assert len(ids) == MAX_ROWS
    assert not better & set(ids[: MAX_ROWS + 3 - len(better)])
    assert f"{MAX_ROWS} of {MAX_ROWS + 3}; all stand in the JSON file." in page.text


def test_too_few_videos_are_said(tmp_path: Path) -> None:
    page = Page(write_run_report(write(tmp_path, predictions(9))))
    assert "too few videos for an interval: 9, it takes 10" in page.text


def test_one_right_utterance_and_no_history_make_a_report(tmp_path: Path) -> None:
    page = Page(
        write_run_report(write(tmp_path, [Prediction("1", "v", 1.0, "vâng", "vâng", "vâng", "vâng")]))
    )
    assert "Every utterance is right." in page.text
    assert "#training" not in page.source


def test_reports_are_written_again_from_the_files_alone(results: Path, tmp_path: Path) -> None:
    folder, audio_root = tmp_path / "outputs" / "results", tmp_path / "audio files"
    shutil.copytree(results, folder)
    shutil.copytree(results.parents[1] / "audio files", audio_root)
    (folder / "run_vs_worse_report.html").unlink()
    (folder / "worse_metrics.json").write_text('{"wer": 1.0}', encoding="utf-8")
    done = write_reports(tmp_path, folder, audio_root)
    assert [path.name for path in done.written] == ["run_report.html", "run_vs_worse_report.html"]
    assert done.not_written == ["worse_report.html: the results are of a version without slices"]
    assert done.written[1].read_bytes() == (results / "run_vs_worse_report.html").read_bytes()
    for name in ("run", "worse"):
        (folder / f"{name}_predictions.csv").unlink()
    reasons = write_reports(tmp_path, folder).not_written
    assert reasons[0] == "run_report.html: there is no run_predictions.csv"
    assert reasons[-1].startswith("run_vs_worse_report.html: its predictions do not lie in")


def test_a_comparison_of_predictions_that_are_others_by_now_is_no_report(
    results: Path, tmp_path: Path
) -> None:
    for name in ("run_vs_worse_comparison.json", "run_predictions.csv"):
        shutil.copy(results / name, tmp_path)
    others = [replace(p, id=f"other-{p.id}") for p in predictions(num_videos=1)]
    write_predictions(tmp_path / "worse_predictions.csv", others, {})
    done = write_reports(tmp_path, tmp_path)
    assert done.written == []
    assert done.not_written == [
        "run_vs_worse_report.html: 0 utterances in both, where 60 were compared; compare the runs again "
        "(scripts/compare_runs.py)"
    ]


def test_the_script_writes_reports_and_slices_from_files_without_torch(
    repo_root: Path, results: Path, tmp_path: Path
) -> None:
    shutil.copytree(results, tmp_path / "results")
    for report in (tmp_path / "results").glob("*.html"):
        report.unlink()
    history = tmp_path / "run" / "metrics" / "run_metrics.json"
    history.parent.mkdir(parents=True)
    history.write_text(json.dumps({"history": HISTORY.entries}), encoding="utf-8")
    code = (
        "import runpy, sys; sys.argv = ['export_charts.py', '--runs_dir', sys.argv[1]]; "
        f"runpy.run_path({str(repo_root / 'scripts' / 'export_charts.py')!r}, run_name='__main__'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written = {path.name for path in tmp_path.rglob("*.html")} | {
        path.name for path in (tmp_path / "charts").glob("slices*.png")
    }
    assert written == {
        *("run_report.html", "worse_report.html", "run_vs_worse_report.html"),
        *("slices_run.png", "slices_worse.png"),
    }
    assert "41.75" in Page(tmp_path / "results" / "run_report.html").cells, "the curve of the run folder"


# --- in a browser -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium() -> str:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    return CHROMIUM


MEASURE = """<!DOCTYPE html><title>-</title>
<iframe id="page" style="width: {width}px; height: 900px; border: 0" src="{report}"></iframe>
<script>
onload = () => {{
  const page = document.getElementById("page").contentDocument;
  document.title = JSON.stringify({{
    scroll: page.documentElement.scrollWidth,
    client: page.documentElement.clientWidth,
    articles: page.querySelectorAll("article").length,
    images: [...page.images].filter(image => image.naturalWidth === 1200).length,
  }});
}};
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("name", ["run_report.html", "run_vs_worse_report.html"])
def test_it_opens_from_disk_in_a_browser(
    name: str, width: int, results: Path, chromium: str, tmp_path: Path
) -> None:
    """Without a network: nothing is wider than the window, and nothing is said on the console."""
    measure = tmp_path / "measure.html"
    measure.write_text(MEASURE.format(width=width, report=(results / name).as_uri()), encoding="utf-8")
    done = subprocess.run(
        [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *("--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", "--window-size=1300,1000"),
            *("--dump-dom", measure.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=True,
    )
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title
    seen = json.loads(html.unescape(title[1]))
    assert seen["client"] == width
    assert seen["scroll"] <= width
    assert seen["articles"] == (NUM_WORST + NUM_RANDOM if name == "run_report.html" else 10)
    assert seen["images"] == (3 if name == "run_report.html" else 0)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
