"""What the pictures share: colours, canvas, bars, and how a figure becomes bytes.

Invariants:
* No window, no global state: figures are made with the Agg canvas, never through pyplot, so that
  several runs may draw at once.
* The same numbers give the same bytes.
"""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, GREY, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BLUE, ORANGE, GREEN, PALE = "#2563ab", "#d9822b", "#2f855a", "#b8cbe0"
DPI = 120
WIDTH = 7.5


def rgb(colour: str) -> tuple[float, ...]:
    """Return a colour's red, green and blue, 0-1."""
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    colours: Sequence[str],
    form: str = "{:,}",
    inside: float = float("inf"),
) -> None:
    """Draw bars with their values: behind the end, or within the bars longer than ``inside``."""
    places = list(range(len(names)))
    axes.barh(places, values, height=0.62, color=colours)
    for place, value in zip(places, values, strict=True):
        within = value > inside
        # Within the bar it stands at the beginning, where no target line crosses it.
        axes.text(
            0 if within else value,
            place,
            f" {form.format(value)}",
            va="center",
            color="white" if within else INK,
            fontweight="bold" if within else "normal",
        )
    axes.set_yticks(places, list(names), parse_math=False)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))


def canvas(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure (inches) with its axes and title."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=INK, fontweight="bold", fontsize=11.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9.5)
    return figure, axes


def png(figure: Figure, *, tight: bool = False) -> bytes:
    """Return a figure as PNG; ``tight`` cuts it to what is drawn."""
    stream = io.BytesIO()
    box = "tight" if tight else None
    figure.savefig(stream, format="png", metadata={"Software": None}, bbox_inches=box)
    return stream.getvalue()
