"""Charts: what is drawn is what the files say, readable with one run and with eight, the same every time."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.small_files import needs_limits, only_files_up_to
from vietst.errors import VietstError
from vietst.evaluation.chart_style import save_chart
from vietst.evaluation.charts import (
    draw_bleu_comparison,
    draw_learning_curve,
    draw_slices,
    draw_training_loss,
    draw_wer_comparison,
    export_charts,
)
from vietst.evaluation.extra_set_charts import draw_extra_sets
from vietst.evaluation.history import History, load_histories

ALL_CHARTS = ["training_loss.png", "learning_curve.png", "wer_comparison.png", "bleu_comparison.png"]
LONG_NAMES = [
    "nano_whisper",
    "prod_whisper_large-v3_lr1e-5_spec-augment_effective-batch-256_seed-1",
    "prod_whisper_large-v3_lr1e-5_spec-augment_effective-batch-256_seed-2",
    "whisper-small vi-en code-switching, both tasks, the run of 22 November 2026",
    "aVeryLongNameWithoutAnySeparatorsWhichHasToBeCutSomewhereSoThatItFits",
    "_begins_with_an_underscore",
    "lr=$1e-5$ and 100% \\frac{1}{2}",
    "x",
]


def history_of(name: str = "run", num_steps: int = 1000, final_wer: float = 8.0) -> History:
    """Training loss at each tenth, dev scores at each quarter of the way."""
    entries: list[dict[str, Any]] = []
    for step in range(num_steps // 10, num_steps + 1, num_steps // 10):
        entries.append({"step": step, "loss": 5 * math.exp(-4 * step / num_steps), "learning_rate": 1e-4})
    for quarter in range(1, 5):
        step = quarter * num_steps // 4
        entries.append({"step": step, "eval_loss": 4 / quarter, "eval_wer": final_wer * 4 / quarter})
        entries[-1] |= {"eval_cer": 1.0, "eval_bleu": 20.0 * quarter, "eval_chrf": 22.0 * quarter}
    return History(name, [*entries, {"step": num_steps, "train_loss": 1.0, "train_runtime": 3.0}])


def result_of(name: str = "run", wer: float = 7.8, bleu: float = 88.2) -> dict[str, Any]:
    return {
        "run_name": name,
        "wer": wer,
        "cer": wer - 1,
        "bleu": bleu,
        "chrf": bleu + 2,
        "baselines": {"copy": {"bleu": 28.3, "chrf": 41.6}, "random_training_sentence": {"wer": 110.0}},
    }


def sliced_run(name: str = "run", *, is_translated: bool = True) -> dict[str, Any]:
    """Three dimensions; the second bin of each has intervals."""

    def row(label: str, number: int) -> dict[str, Any]:
        scores = {"wer": 10.0 + number, "wer_vietnamese": 8.0, "pier": 20.0 + 9 * number}
        scores |= {"bleu": 60.0, "change": 50.0} if is_translated else {}
        intervals = {score: {"low": value - 4, "high": value + 5} for score, value in scores.items()}
        return {
            "slice": label,
            "num_utterances": 1000 * number + 1,
            **scores,
            "intervals": intervals if number else {},
        }

    labels = {
        "code_mixing_index": ["0", "0 to 15", "15 to 30", "> 30"],
        "duration_s": ["≤ 2", "2 to 5", "5 to 10", "10 to 20", "> 20"],
        "level_dbfs": ["≤ −40", "> −20"],
    }
    slices = {name: [row(label, index) for index, label in enumerate(of)] for name, of in labels.items()}
    return {"run_name": name, "slices": slices}


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Two runs, one evaluated, in the folders of the guide's §9."""
    outputs = tmp_path / "outputs"
    for name in ("nano_whisper", "dev_whisper"):
        path = outputs / name / "metrics" / f"{name}_metrics.json"
        write_json(path, {"experiment_name": name, "run": name, "history": history_of(name).entries})
    write_json(outputs / "results" / "nano_whisper_metrics.json", result_of("nano_whisper"))
    return outputs


def lines_of(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): tuple(map(list, line.get_data())) for line in axes.get_lines()}


def bars_of(axes: Axes) -> dict[str, list[float]]:
    return {str(bars.get_label()): [bar.get_width() for bar in bars] for bars in axes.containers}


# --- what is drawn ----------------------------------------------------------------------------------------


def test_training_loss_draws_both_losses_of_every_run() -> None:
    (axes,) = draw_training_loss([history_of("a"), history_of("b", 500)]).axes
    lines = lines_of(axes)
    assert lines.keys() == {"a: training", "a: dev", "b: training", "b: dev"}
    assert lines["a: dev"] == ([250, 500, 750, 1000], [4, 2, 4 / 3, 1])
    assert lines["b: training"][0] == list(range(50, 501, 50))
    assert lines["b: training"][1][-1] == pytest.approx(5 * math.exp(-4))
    assert axes.get_title()
    assert "loss" in axes.get_ylabel()
    assert "step" in axes.get_xlabel()


def test_the_loss_axis_is_logarithmic_only_for_wide_ranges_of_positive_values() -> None:
    def scale_of(*losses: float) -> str:
        history = History("run", [{"step": step, "loss": loss} for step, loss in enumerate(losses)])
        return draw_training_loss([history]).axes[0].get_yscale()

    assert scale_of(5.0, 0.2) == "log"
    assert scale_of(5.0, 0.2, math.nan, math.inf) == "log"
    assert scale_of(5.0, 2.0) == "linear"
    assert scale_of(5.0, 0.0) == "linear"
    assert scale_of(5.0, -0.2) == "linear"


def test_nan_and_infinity_leave_a_gap() -> None:
    entries = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": math.inf}]
    (axes,) = draw_training_loss([History("run", [*entries, {"step": 4, "loss": 2.0}])]).axes
    steps, losses = lines_of(axes)["run: training"]
    assert steps == [1, 2, 3, 4]
    assert [math.isnan(loss) for loss in losses] == [False, True, True, False]


def test_a_single_training_loss_is_visible() -> None:
    (axes,) = draw_training_loss([History("run", [{"step": 3, "loss": 3.0}])]).axes
    assert axes.get_lines()[0].get_marker() == "."


def test_learning_curve_draws_wer_and_bleu_with_the_guides_targets() -> None:
    left, right = draw_learning_curve([history_of("a")]).axes
    assert lines_of(left)["a"] == ([250, 500, 750, 1000], pytest.approx([32, 16, 32 / 3, 8]))
    assert lines_of(right)["a"] == ([250, 500, 750, 1000], [20, 40, 60, 80])
    assert lines_of(left)["target"][1] == [15, 15]
    assert lines_of(right)["target"][1] == [25, 25]
    assert left.get_ylabel().startswith("WER (%)")
    assert right.get_ylabel().startswith("BLEU")


def test_learning_curve_says_what_was_not_evaluated() -> None:
    history = History("asr", [{"step": 1, "eval_wer": 50.0}])
    left, right = draw_learning_curve([history]).axes
    assert [text.get_text() for text in left.texts] == []
    assert [text.get_text() for text in right.texts] == ["not evaluated"]


def test_wer_comparison_draws_bars_values_and_targets() -> None:
    (axes,) = draw_wer_comparison([result_of("a", wer=7.84), result_of("b", wer=120.0)]).axes
    assert bars_of(axes) == {"WER": [7.84, 120.0], "CER": [6.84, 119.0]}
    assert [text.get_text() for text in axes.texts] == ["7.8", "120.0", "6.8", "119.0"]
    assert lines_of(axes)["WER target: < 15"][0] == [15, 15]
    assert lines_of(axes)["CER target: < 10"][0] == [10, 10]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_xlim()[1] > 120
    assert "%" in axes.get_xlabel()


def test_bleu_comparison_draws_the_copy_baseline_too() -> None:
    (axes,) = draw_bleu_comparison([result_of("a", bleu=20.0), result_of("b") | {"baselines": {}}]).axes
    assert bars_of(axes) == {"BLEU": [20.0, 88.2], "chrF": [22.0, 90.2]}
    assert [text.get_text() for text in axes.texts] == [
        "20.0  (copy 28.3)",
        "88.2",
        "22.0  (copy 41.6)",
        "90.2",
    ]
    copies = [line.get_xdata()[0] for line in axes.get_lines() if "copy" in str(line.get_label())]
    assert copies == [28.3, 41.6]
    assert lines_of(axes)["BLEU target: > 25"][0] == [25, 25]
    assert lines_of(axes)["chrF target: > 50"][0] == [50, 50]


def test_scores_on_raw_text_of_another_style_are_marked() -> None:
    plain = result_of("b") | {"text_style": "lower_nopunct"}
    figure = draw_bleu_comparison([result_of("a"), plain])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b *"]
    assert "* in text style lower_nopunct" in axes.get_xlabel()
    assert_readable(figure)
    (axes,) = draw_bleu_comparison([plain, plain]).axes
    assert "*" not in axes.get_xlabel()


# --- readability ------------------------------------------------------------------------------------------


def texts_of(figure: Figure) -> list[Text]:
    """All texts that are drawn: titles, labels, ticks in view, values, legends."""
    hidden = ticks_out_of_view(figure)
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in found if id(text) not in hidden]


def ticks_out_of_view(figure: Figure) -> set[int]:
    outside = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    outside.add(id(tick.label1))
                outside.add(id(tick.label2))
    return outside


@pytest.mark.parametrize(("num_runs", "num_steps"), [(1, 40), (3, 4_000), (8, 200_000), (2, 950_000)])
@pytest.mark.parametrize(
    "draw", [draw_training_loss, draw_learning_curve, draw_wer_comparison, draw_bleu_comparison]
)
def test_texts_neither_overlap_nor_leave_the_picture(draw, num_runs: int, num_steps: int) -> None:
    names = LONG_NAMES[:num_runs]
    if draw in (draw_training_loss, draw_learning_curve):
        figure = draw([history_of(name, num_steps) for name in names])
    else:
        figure = draw([result_of(name, wer=7 + 3 * i, bleu=97.9 - 10 * i) for i, name in enumerate(names)])
    assert_readable(figure)


@pytest.mark.filterwarnings("error")
def test_slices_of_one_task_keep_the_size_of_their_panels() -> None:
    sizes = []
    for is_translated in (True, False):
        figure = draw_slices(sliced_run(is_translated=is_translated))
        FigureCanvasAgg(figure).draw()
        sizes.append([axes.get_window_extent().height for axes in figure.axes])
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


@pytest.mark.parametrize("name", LONG_NAMES)
def test_texts_of_slices_neither_overlap_nor_leave_the_picture(name: str) -> None:
    assert_readable(draw_slices(sliced_run(name)))


def assert_readable(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    assert len(boxes) > 5
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for (one, box), (other, other_box) in itertools.combinations(boxes, 2):
        assert not box.overlaps(other_box), (one, other)


@pytest.mark.parametrize("is_translated", [True, False], ids=["both tasks", "transcribed only"])
def test_slices_draw_every_score_with_its_interval(*, is_translated: bool) -> None:
    figure = draw_slices(sliced_run(LONG_NAMES[1], is_translated=is_translated))
    errors, scores = figure.get_axes()
    points = {line.get_label(): line for line in errors.get_lines() if line.get_marker() != "None"}
    assert points.keys() == {"WER", "Vietnamese WER", "PIER: English WER"}
    pier = points["PIER: English WER"]
    assert list(pier.get_xdata()) == [20, 29, 38, 47, 20, 29, 38, 47, 56, 20, 29]
    intervals = [tuple(line.get_xdata()) for line in errors.get_lines() if line.get_marker() == "None"]
    assert len(intervals) == 3 * 8
    assert (25, 34) in intervals
    assert not any(line.get_clip_on() for line in points.values()), "a mark at 0 is whole"
    labels = [label.get_text() for label in errors.get_yticklabels()]
    assert labels[:3] == ["code-mixing index", "0  (1)", "0 to 15  (1,001)"]
    assert any(text.get_text() == "not evaluated" for text in scores.texts) != is_translated


def test_the_axis_of_slices_without_an_error_ends_at_one_percent() -> None:
    run = sliced_run()
    for row in itertools.chain(*run["slices"].values()):
        row |= {"wer": 0.0, "wer_vietnamese": 0.0, "pier": 0.0, "intervals": {}}
    assert draw_slices(run).get_axes()[0].get_xlim() == (0, 1)


def test_names_stay_distinct_when_shortened() -> None:
    figure = draw_wer_comparison([result_of(name) for name in LONG_NAMES])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(labels)) == len(LONG_NAMES)
    assert labels[0] == "nano_whisper"


def test_every_run_of_sixteen_has_a_look_of_its_own() -> None:
    left, _ = draw_learning_curve([history_of(f"run-{number}") for number in range(16)]).axes
    looks = {
        (line.get_color(), line.get_marker()) for line in left.get_lines() if line.get_label() != "target"
    }
    assert len(looks) == 16


# --- files ------------------------------------------------------------------------------------------------


def test_all_charts_are_png_files_of_1200_pixels_width(outputs: Path) -> None:
    charts = export_charts(outputs, outputs / "results", outputs / "charts")
    assert charts.written == [outputs / "charts" / name for name in ALL_CHARTS]
    assert charts.not_drawn == []
    assert sorted(path.name for path in (outputs / "charts").iterdir()) == sorted(ALL_CHARTS)
    for path in charts.written:
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        height, width, _ = matplotlib.image.imread(path).shape
        assert width == 1200
        assert 300 < height < 1300


def test_the_same_files_give_the_same_pictures(outputs: Path) -> None:
    first = export_charts(outputs, outputs / "results", outputs / "one").written
    second = export_charts(outputs, outputs / "results", outputs / "two").written
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@needs_limits
def test_a_full_disk_is_told_and_leaves_no_half_picture(tmp_path: Path) -> None:
    with only_files_up_to(1000), pytest.raises(VietstError, match="free some space"):
        save_chart(draw_wer_comparison([result_of()]), tmp_path / "chart.png")
    assert list(tmp_path.iterdir()) == []


def test_a_persons_own_matplotlib_settings_change_nothing(outputs: Path) -> None:
    def picture(name: str) -> bytes:
        save_chart(draw_wer_comparison([result_of()]), outputs / name)
        return (outputs / name).read_bytes()

    plain = picture("plain.png")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "savefig.dpi": 10}):
        assert picture("own.png") == plain


def test_what_is_missing_is_named_and_the_rest_drawn(outputs: Path) -> None:
    write_json(outputs / "results" / "nano_whisper_metrics.json", {"wer": 3.0, "cer": 2.0})
    write_json(outputs / "nano_whisper" / "metrics" / "nano_whisper_metrics.json", {"history": []})
    path = outputs / "dev_whisper" / "metrics" / "dev_whisper_metrics.json"
    write_json(path, {"history": [{"step": 1, "loss": 2.0}, {"step": 2, "eval_wer": math.nan}]})
    charts = export_charts(outputs, outputs / "results", outputs / "charts")
    assert [path.name for path in charts.written] == ["training_loss.png", "wer_comparison.png"]
    assert [reason.split(":")[0] for reason in charts.not_drawn] == [
        "learning_curve.png",
        "bleu_comparison.png",
    ]


def test_histories_are_named_after_run_and_where_needed_experiment(tmp_path: Path) -> None:
    for run, experiment in (("b", "only"), ("a", "one"), ("a", "two")):
        write_json(
            tmp_path / run / "metrics" / f"{experiment}_metrics.json", {"history": [{"step": 1, "loss": 1}]}
        )
    write_json(tmp_path / "results" / "a_metrics.json", result_of())
    assert [history.name for history in load_histories(tmp_path)] == ["a / one", "a / two", "b"]


def test_a_series_is_ordered_and_keeps_the_last_value_of_a_step() -> None:
    entries = [{"step": 20, "loss": 2}, {"step": 10, "loss": 9.0}, {"step": 10, "loss": 3.0}, {"loss": 7.0}]
    history = History("run", [*entries, {"step": 30, "loss": None}, {"step": 40, "loss": "0.5"}])
    assert history.series("loss") == ([10, 20], [3.0, 2.0])
    assert history.has("loss")
    assert not history.has("eval_loss")


@pytest.mark.parametrize("content", ["[]", "{", '{"history": 3}', '{"history": [3]}'])
def test_a_broken_history_is_named(outputs: Path, content: str) -> None:
    path = outputs / "dev_whisper" / "metrics" / "dev_whisper_metrics.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(VietstError, match=r"dev_whisper_metrics\.json"):
        export_charts(outputs, outputs / "results", outputs / "charts")


# --- the script -------------------------------------------------------------------------------------------


def run_export_charts(repo_root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repo_root / "scripts" / "export_charts.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


def test_the_bare_script_draws_what_lies_in_outputs(repo_root: Path, outputs: Path) -> None:
    done = run_export_charts(repo_root, outputs.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (outputs / "charts").iterdir()) == sorted(ALL_CHARTS)
    for name in ALL_CHARTS:
        assert str(Path("outputs", "charts", name)) in done.stdout


def test_the_script_takes_other_folders(repo_root: Path, outputs: Path, tmp_path: Path) -> None:
    done = run_export_charts(
        repo_root, tmp_path, "--results_dir", "outputs/results", "--output_dir", "elsewhere"
    )
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == sorted(ALL_CHARTS)


def test_with_nothing_to_draw_the_script_says_so_and_exits_2(repo_root: Path, tmp_path: Path) -> None:
    done = run_export_charts(repo_root, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: outputs")
    assert "train_whisper.py" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_script_reads_files_without_torch(repo_root: Path, outputs: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['export_charts.py', '--runs_dir', sys.argv[1]]; "
        f"runpy.run_path({str(repo_root / 'scripts' / 'export_charts.py')!r}, run_name='__main__'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(outputs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_each_extra_set_has_a_panel_that_begins_at_the_base_model() -> None:
    wers = {"english": (12.0, 19.5), "vietnamese": (8.0, 7.0), "vivos": (5.0, 5.5)}
    entries = [
        {"step": step, "eval_wer": 30.0, **{f"eval_{name}_wer": wers[name][step // 500] for name in wers}}
        for step in (0, 500)
    ]
    figure = draw_extra_sets([History("watched", entries), History("unwatched", [{"step": 0, "loss": 1.0}])])
    panels = {axes.get_title(): axes for axes in figure.axes if axes.axison}
    assert list(panels) == list(wers)
    for name, axes in panels.items():
        curve, before = axes.get_lines()[0], axes.get_lines()[1]
        assert [tuple(point) for point in curve.get_xydata()] == [(0, wers[name][0]), (500, wers[name][1])]
        assert set(before.get_ydata()) == {wers[name][0]}
