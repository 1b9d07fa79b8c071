"""Charts of training and results, drawn from files alone: they can be redrawn a year later without torch.

The `draw_*` functions return matplotlib figures, `export_charts` reads the files and saves the figures as
PNG of 1200 pixels width. The same files give the same pictures.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vietst.errors import VietstError
from vietst.evaluation.chart_style import (
    add_legend_below,
    chart_style,
    look_of,
    new_figure,
    plain_steps,
    save_chart,
    short_name,
)
from vietst.evaluation.extra_set_charts import draw_extra_sets, draw_interpolation
from vietst.evaluation.history import History, extra_set_names, load_histories
from vietst.evaluation.interpolation_curve import load_curves
from vietst.evaluation.metrics import GUIDE_TARGETS
from vietst.evaluation.metrics_file import METRICS_SUFFIX, load_results
from vietst.text_style import AS_IS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_METRIC_COLOURS: Final = {"wer": "#0072B2", "cer": "#E69F00", "bleu": "#009E73", "chrf": "#CC79A7"}
_METRIC_LABELS: Final = {"wer": "WER", "cer": "CER", "bleu": "BLEU", "chrf": "chrF"}

_COPY_LABEL: Final = "copy: the transcript as translation"

_LOSSES: Final = ("loss", "eval_loss")
"""Keys of the Trainer's log, of training and dev."""

_LOG_SCALE_FROM: Final = 10
"""Losses whose largest value is this many times the smallest are drawn on a logarithmic axis."""


# --- drawing ----------------------------------------------------------------------------------------------


def _wrapped(name: str) -> str:
    """The name on lines of 28 characters, cut after its separators where it has some."""
    lines = [""]
    for part in re.findall(r"[^\s_/-]{1,28}[\s_/-]*|[\s_/-]+", short_name(name, 64)):
        if len(lines[-1] + part) > 28:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _use_log_scale_if_wide(axes: "Axes", values: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    finite = [value for value in values if math.isfinite(value)]
    if not finite or min(finite) <= 0 or max(finite) < _LOG_SCALE_FROM * min(finite):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(f"{axes.get_ylabel()}, logarithmic")


def draw_training_loss(histories: Sequence[History]) -> "Figure":
    """Training loss (solid) and dev loss (dashed, with markers) over optimizer steps, one colour a run."""
    from matplotlib.lines import Line2D

    with chart_style():
        figure = new_figure(4.6)
        axes = figure.subplots()
        looks = [look_of(index) for index in range(len(histories))]
        for history, look in zip(histories, looks, strict=True):
            _plot_losses(axes, history, look)
        axes.set_title("Loss during training")
        axes.set_ylabel("loss")
        plain_steps(axes)
        _use_log_scale_if_wide(axes, [x for run in histories for key in _LOSSES for x in run.series(key)[1]])
        handles = [Line2D([], [], linewidth=2, **look) for look in looks]
        handles.append(Line2D([], [], color="#555555"))
        handles.append(Line2D([], [], color="#555555", linestyle="--", marker="o"))
        names = [short_name(history.name, 44) for history in histories]
        meanings = ["training: what is minimized", "dev: cross-entropy (nats per token)"]
        add_legend_below(figure, handles, [*names, *meanings])
    return figure


def _plot_losses(axes: "Axes", history: History, look: Mapping[str, Any]) -> None:
    train, dev = (history.series(key) for key in _LOSSES)
    marker = "." if len(train[0]) < 20 else None  # a line through a single point is invisible
    label = f"{history.name}: training"
    axes.plot(*train, color=look["color"], marker=marker, linewidth=1, alpha=0.7, label=label)
    axes.plot(*dev, linestyle="--", markersize=5, linewidth=1.2, **look, label=f"{history.name}: dev")


def draw_learning_curve(histories: Sequence[History]) -> "Figure":
    """WER and BLEU on the dev split over optimizer steps, a panel for each, with the guide's targets."""
    with chart_style():
        figure = new_figure(4.6)
        figure.suptitle("Dev scores during training", fontsize=13)
        left, right = figure.subplots(1, 2)
        handles = _draw_dev_scores(left, histories, "wer", "WER (%), lower is better")
        _draw_dev_scores(right, histories, "bleu", "BLEU (0–100), higher is better")
        add_legend_below(
            figure, handles, [*(short_name(history.name, 44) for history in histories), "guide's target"]
        )
    return figure


def _draw_dev_scores(axes: "Axes", histories: Sequence[History], metric: str, label: str) -> list["Line2D"]:
    """Returns one legend handle for each run, and one for the target."""
    handles = []
    for index, history in enumerate(histories):
        steps, values = history.series(f"eval_{metric}")
        handles += axes.plot(steps, values, markersize=5, linewidth=1.5, **look_of(index), label=history.name)
    target = axes.axhline(GUIDE_TARGETS[metric].limit, color="#555555", linestyle=":", label="target")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    plain_steps(axes)
    if not any(history.has(f"eval_{metric}") for history in histories):
        _say_not_evaluated(axes)
    return [*handles, target]


def _say_not_evaluated(axes: "Axes") -> None:
    axes.set_xticks([])
    axes.text(0.5, 0.5, "not evaluated", transform=axes.transAxes, ha="center", color="#555555")


def draw_wer_comparison(runs: Sequence[Mapping[str, Any]]) -> "Figure":
    """WER and CER bars of each run, with the guide's targets."""
    with chart_style():
        figure, axes = _draw_bars(runs, ("wer", "cer"))
        axes.set_title("Speech recognition: error rates on the test set")
        axes.set_xlabel("errors on normalized text (%), lower is better")
        longest_bar = max(run[metric] for run in runs for metric in ("wer", "cer"))
        axes.set_xlim(0, 1.12 * max(longest_bar, GUIDE_TARGETS["wer"].limit))
    return figure


def draw_bleu_comparison(runs: Sequence[Mapping[str, Any]]) -> "Figure":
    """BLEU and chrF bars of each run, with the guide's targets and the copy baseline."""
    with chart_style():
        figure, axes = _draw_bars(runs, ("bleu", "chrf"))
        axes.set_title("Speech translation: BLEU and chrF on the test set")
        axes.set_xlabel("score on raw text (0–100), higher is better")
        _mark_other_styles(axes, runs)
        axes.set_xlim(0, 140)  # room for the values behind the bars
        axes.set_xticks(range(0, 101, 20))
    return figure


def _mark_other_styles(axes: "Axes", runs: Sequence[Mapping[str, Any]]) -> None:
    """A star at runs in a plainer text style than others: their scores on raw text cannot be compared."""
    styles = [run.get("text_style", AS_IS) for run in runs]
    if len(set(styles)) > 1:
        names = [label.get_text() for label in axes.get_yticklabels()]
        marks = ["" if style == AS_IS else " *" for style in styles]
        axes.set_yticks(range(len(runs)), [name + mark for name, mark in zip(names, marks, strict=True)])
        (plainer,) = set(styles) - {AS_IS}
        note = f"* in text style {plainer}: not to be compared with the others"
        axes.set_xlabel(f"{axes.get_xlabel()}\n{note}")


def _draw_bars(runs: Sequence[Mapping[str, Any]], metrics: tuple[str, str]) -> tuple["Figure", "Axes"]:
    """Two bars for each run with their values, and where the copy baseline lies on the run's test set."""
    figure = new_figure(1.6 + 0.72 * len(runs))
    axes = figure.subplots()
    handles: list[Any] = []
    for offset, metric in zip((-0.19, 0.19), metrics, strict=True):
        rows = [index + offset for index in range(len(runs))]
        values = [run[metric] for run in runs]
        colour, label = _METRIC_COLOURS[metric], _METRIC_LABELS[metric]
        handles.append(axes.barh(rows, values, 0.34, color=colour, label=label))
        copies = [run.get("baselines", {}).get("copy", {}).get(metric) for run in runs]
        for row, value, copy in zip(rows, values, copies, strict=True):
            _write_value(axes, row, value, copy)
    for metric, line_style in zip(metrics, ("--", ":"), strict=True):
        label = f"{_METRIC_LABELS[metric]} target: {GUIDE_TARGETS[metric]}"
        limit = GUIDE_TARGETS[metric].limit
        handles.append(axes.axvline(limit, color="#333333", linestyle=line_style, linewidth=1.5, label=label))
    handles += [line for line in axes.get_lines() if line.get_label() == _COPY_LABEL][:1]
    axes.set_yticks(range(len(runs)), [_wrapped(run["run_name"]) for run in runs])
    axes.set_ylim(len(runs) - 0.45, -0.55)  # the first run on top
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    add_legend_below(figure, handles, [str(handle.get_label()) for handle in handles])
    return figure, axes


def _write_value(axes: "Axes", row: float, value: float, copy: float | None) -> None:
    """The value behind its bar, on white so that no line runs through it, and the copy baseline's diamond."""
    text, end = f"{value:.1f}", value
    if copy is not None:
        axes.plot(copy, row, "D", color="white", markeredgecolor="black", markersize=7, label=_COPY_LABEL)
        text, end = f"{value:.1f}  (copy {copy:.1f})", max(value, copy)
    white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.annotate(
        text, (end, row), (8, 0), textcoords="offset points", va="center", fontsize=10, bbox=white, zorder=4
    )


_BINNED_SLICES: Final = {
    "code_mixing_index": "code-mixing index",
    "duration_s": "duration (s)",
    "level_dbfs": "level (dBFS)",
    "verified": "texts",
    "data_source": "source",
}
_SLICE_PANELS: Final = (
    (
        "errors (%), lower is better",
        {"wer": "WER", "wer_vietnamese": "Vietnamese WER", "pier": "PIER: English WER"},
    ),
    ("score (0–100), higher is better", {"bleu": "BLEU", "change": "changed spans"}),
)


def draw_slices(run: Mapping[str, Any]) -> "Figure":
    """Scores of one run by code-mixing, duration, level and verification, with 95 % intervals if any."""
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for dimension, name in _BINNED_SLICES.items():
        if of_dimension := run["slices"].get(dimension):
            rows.append((name, {}))
            rows += [(f"{row['slice']}  ({row['num_utterances']:,})", row) for row in of_dimension]
    with chart_style():
        figure = new_figure(1.7 + 0.32 * len(rows))
        figure.suptitle(f"Scores by slice: {short_name(run['run_name'], 44)}", fontsize=13)
        panels = figure.subplots(1, len(_SLICE_PANELS), sharey=True)
        looks = itertools.count()
        handles: list[Any] = []
        for axes, (title, labels) in zip(panels, _SLICE_PANELS, strict=True):
            handles += _draw_slice_scores(axes, rows, labels, looks)
            axes.set_xlabel(title)
            # From 0 on, scores that lie close together leave no room for their own marks.
            axes.set_xlim(0, max(1, 1.04 * axes.get_xlim()[1]))
            if not any(name in row for _, row in rows for name in labels):
                _say_not_evaluated(axes)
        panels[0].set_title("in brackets: utterances", fontsize=9, loc="left")
        panels[0].set_yticks(range(len(rows)), [label for label, _ in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
        for tick, (_, row) in zip(panels[0].get_yticklabels(), rows, strict=True):
            tick.set_fontweight("normal" if row else "bold")
        add_legend_below(figure, handles, [str(handle.get_label()) for handle in handles])
    return figure


def _draw_slice_scores(
    axes: "Axes",
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    labels: Mapping[str, str],
    looks: Iterator[int],
) -> list["Line2D"]:
    """Points, set off from each other within a row so that intervals do not cover each other."""
    handles = []
    for offset, (name, label) in enumerate(labels.items()):
        shift = 0.22 * (offset - (len(labels) - 1) / 2)
        scored = [(index + shift, row) for index, (_, row) in enumerate(rows) if name in row]
        look = look_of(next(looks))
        for height, row in scored:
            if interval := row["intervals"].get(name):
                axes.plot(
                    [interval["low"], interval["high"]], [height] * 2, color=look["color"], linewidth=1.5
                )
        values, heights = [row[name] for _, row in scored], [height for height, _ in scored]
        # Half a mark of a score of 0 lies outside the axes. A line without marks would undo the layout.
        whole: dict[str, Any] = {"clip_on": False, "in_layout": False, "zorder": 3}
        handles += axes.plot(values, heights, linestyle="", markersize=5, label=label, **whole, **look)
    return handles


# --- saving -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExportedCharts:
    """What `export_charts` wrote, and for each chart it could not draw, why."""

    written: list[Path]
    not_drawn: list[str]


def export_charts(runs_dir: Path, results_dir: Path, output_dir: Path) -> ExportedCharts:
    """Draw all charts for which there are data, as PNG files in `output_dir`.

    Raises:
        VietstError: there is nothing to draw, or a file is broken.
    """
    histories, results = load_histories(runs_dir), load_results(results_dir)
    in_histories = f"in {runs_dir / '*' / 'metrics' / ('*' + METRICS_SUFFIX)}"
    in_results = f"in {results_dir / ('*' + METRICS_SUFFIX)}"
    charts: tuple[tuple[str, Callable[[Any], Figure], Sequence[Any], str], ...] = (
        (
            "training_loss.png",
            draw_training_loss,
            _with_any(histories, *_LOSSES),
            f"no losses {in_histories}",
        ),
        (
            "learning_curve.png",
            draw_learning_curve,
            _with_any(histories, "eval_wer", "eval_bleu"),
            f"no dev scores {in_histories}",
        ),
        ("wer_comparison.png", draw_wer_comparison, _with_all(results, "wer", "cer"), f"no WER {in_results}"),
        (
            "bleu_comparison.png",
            draw_bleu_comparison,
            _with_all(results, "bleu", "chrf"),
            f"no BLEU {in_results}",
        ),
    )
    if not any(data for _, _, data, _ in charts):
        raise VietstError(
            where=f"{runs_dir}, {results_dir}",
            rule="charts need the metrics of at least one training or evaluation",
            found="; ".join(reason for *_, reason in charts),
            do="run scripts/train_whisper.py and scripts/run_evaluation.py first, or name the right folders",
        )
    for name, draw, data, _ in charts:
        if data:
            save_chart(draw(data), output_dir / name)
    watched = [history for history in histories if extra_set_names(history.entries)]
    if watched:
        save_chart(draw_extra_sets(watched), output_dir / "extra_sets.png")
    curves = {f"interpolation_{curve['run_name']}.png": curve for curve in load_curves(results_dir)}
    for name, curve in curves.items():
        save_chart(draw_interpolation(curve), output_dir / name)
    sliced = {f"slices_{run['run_name']}.png": run for run in results if run.get("slices")}
    for name, run in sliced.items():
        save_chart(draw_slices(run), output_dir / name)
    return ExportedCharts(
        written=[
            output_dir / name
            for name in [
                *(name for name, _, data, _ in charts if data),
                *(["extra_sets.png"] if watched else []),
                *curves,
                *sliced,
            ]
        ],
        not_drawn=[f"{name}: {reason}" for name, _, data, reason in charts if not data],
    )


def _with_any(histories: Sequence[History], *keys: str) -> list[History]:
    return [history for history in histories if any(history.has(key) for key in keys)]


def _with_all(results: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    return [run for run in results if all(isinstance(run.get(key), int | float) for key in keys)]
