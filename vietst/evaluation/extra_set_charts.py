"""Charts about what a model should not lose: extra sets over a training, and over mixtures with the base."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vietst.evaluation.chart_style import (
    add_legend_below,
    chart_style,
    look_of,
    new_figure,
    plain_steps,
    short_name,
)
from vietst.evaluation.history import History, extra_set_names, wer_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_extra_sets(histories: Sequence[History]) -> "Figure":
    """WER on each extra set over optimizer steps, a panel for each set, one colour a run.

    Step 0 is the base model; a dotted line keeps its score in sight.
    """
    names = extra_set_names(entry for history in histories for entry in history.entries)
    num_rows = math.ceil(len(names) / 2)
    with chart_style():
        figure = new_figure(0.6 + 3.6 * num_rows)
        figure.suptitle("Extra sets during training", fontsize=13)
        panels = figure.subplots(num_rows, min(2, len(names)), squeeze=False).flatten()
        handles: list[Any] = []
        for name, axes in zip(names, panels, strict=False):
            lines = _draw_extra_set(axes, histories, name)
            handles = handles or lines
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        labels = [*(short_name(history.name, 44) for history in histories), "before the training"]
        add_legend_below(figure, handles, labels)
    return figure


def _draw_extra_set(axes: "Axes", histories: Sequence[History], name: str) -> list[Any]:
    """Returns one legend handle for each run, and one for the score before the training."""
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    for index, history in enumerate(histories):
        steps, values = history.series(wer_key(name))
        handles += axes.plot(steps, values, markersize=5, linewidth=1.5, **look_of(index), label=history.name)
        if steps and steps[0] == 0:
            axes.axhline(values[0], color=look_of(index)["color"], linestyle=":", linewidth=1)
    axes.set_title(short_name(name, 40), fontsize=11)
    axes.set_ylabel("WER (%), lower is better")
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    plain_steps(axes)
    return [*handles, Line2D([], [], color="#555555", linestyle=":")]


def draw_interpolation(curve: Mapping[str, Any]) -> "Figure":
    """WER of the test split and the extra sets over the share of the tuned model; BLEU of the test beside it.

    Args:
        curve: the content of `<run>_interpolation.json`.
    """
    points = curve["points"]
    shares = [point["share_of_tuned"] for point in points]
    lines = {name: [p["extra_sets"][name].get("wer") for p in points] for name in points[0]["extra_sets"]}
    if "wer" in points[0]["test"]:
        lines = {"test": [point["test"]["wer"] for point in points], **lines}
    has_bleu = "bleu" in points[0]["test"]
    with chart_style():
        figure = new_figure(4.4)
        figure.suptitle(f"{short_name(curve['run_name'], 44)} mixed with its base model", fontsize=13)
        panels = list(figure.subplots(1, 1 + has_bleu, squeeze=False)[0])
        handles: list[Any] = []
        for index, (name, values) in enumerate(lines.items()):
            handles += panels[0].plot(
                shares, values, markersize=5, linewidth=1.5, **look_of(index), label=name
            )
        panels[0].set_ylabel("WER (%), lower is better")
        if has_bleu:
            panels[1].plot(shares, [p["test"]["bleu"] for p in points], markersize=5, **look_of(0))
            panels[1].set_ylabel("BLEU (0–100), higher is better")
        for axes in panels:
            axes.set_ylim(bottom=0)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["base", "0.25", "0.5", "0.75", "tuned"])
            axes.set_xlabel("share of the tuned model")
        add_legend_below(figure, handles, [short_name(name, 40) for name in lines])
    return figure
