"""What all charts of this project look like: their size, colours, legends and files."""

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vietst.full_disk import full_disk_is_an_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_INCHES: Final = 8.0
_DOTS_PER_INCH: Final = 150

# Okabe and Ito's colours, which colour-blind readers can tell apart; grey for their yellow, pale for lines.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")


@contextmanager
def chart_style() -> Iterator[None]:
    """What all charts of this project look like."""
    import matplotlib.style

    style: dict[str, Any] = {
        "font.size": 11,
        "axes.titlesize": 13,
        "axes.grid": True,
        "grid.color": "#DDDDDD",
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "text.parse_math": False,  # a run may be called "lr=$1e-5$"
    }
    # From the default style on, so that nobody's own matplotlibrc changes the pictures.
    with matplotlib.style.context(["default", style]):
        yield


def new_figure(height_inches: float) -> "Figure":
    """A figure of the width that all charts have."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH_INCHES, height_inches), dpi=_DOTS_PER_INCH, layout="constrained")


def short_name(name: str, width: int) -> str:
    """At most `width` characters; long names lose their middle, since runs mostly differ at the ends."""
    half = (width - 1) // 2
    name = name if len(name) <= width else f"{name[:half]}…{name[-half:]}"
    return f" {name}" if name.startswith("_") else name  # matplotlib hides labels that begin with "_"


def look_of(index: int) -> dict[str, Any]:
    """Colour and marker of the run number `index`."""
    rounds, number = divmod(index, len(_COLOURS))
    return {"color": _COLOURS[number], "marker": _MARKERS[(number + rounds) % len(_MARKERS)]}


def add_legend_below(figure: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    """The figure grows by the legend's rows, so that many runs do not squeeze the axes."""
    num_columns = max(1, min(4, len(labels), 96 // (max(map(len, labels)) + 6)))
    figure.set_figheight(figure.get_figheight() + 0.21 * math.ceil(len(labels) / num_columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns)


def plain_steps(axes: "Axes") -> None:
    """The horizontal axis counts optimizer steps."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_xlabel("optimizer step")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def png_of(figure: "Figure") -> bytes:
    """A PNG image of 1200 pixels width. Equal figures give equal bytes."""
    image = io.BytesIO()
    with chart_style():
        figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def save_chart(figure: "Figure", path: Path) -> None:
    """Write `png_of` a figure to a file, atomically. Raises VietstError where the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with full_disk_is_an_error(path):
            temporary.write_bytes(png_of(figure))
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
