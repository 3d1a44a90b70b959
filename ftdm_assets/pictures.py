"""Pictures for the UI: PNG bytes from plain numbers, and the markdown that shows them.

Invariants:
* No window, no global state: figures are made with the Agg canvas, never through pyplot, so that
  several runs may draw at once.
* The same numbers give the same bytes.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

_INK, _GREY, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_BLUE, _ORANGE, _GREEN, _PALE = "#2563ab", "#d9822b", "#2f855a", "#b8cbe0"
_DPI = 120
_WIDTH = 7.5


def markdown(png: bytes, title: str = "") -> str:
    """Return an image as markdown with a data URI."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> bytes:
    """Draw the loss of each step and its running mean."""
    figure, axes = _canvas("Training loss", _WIDTH, 3.6)
    axes.plot(steps, losses, color=_PALE, linewidth=1.2, label="each step")
    axes.plot(steps, _running_mean(losses), color=_BLUE, linewidth=2.2, label="running mean")
    if len(losses):
        axes.set_ylim(0, max(losses) * 1.06 or 1)
        last = float(_running_mean(losses)[-1])
        axes.annotate(
            f"{last:.3f}",
            (steps[-1], last),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            color=_BLUE,
            fontweight="bold",
        )
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.legend(frameon=False)
    return _png(figure)


def _running_mean(values: Sequence[float]) -> Any:
    half = len(values) // 24
    padded = np.concatenate([np.zeros(1), np.cumsum(np.asarray(values, dtype=float))])
    places = np.arange(len(values))
    starts = np.maximum(0, places - half)
    ends = np.minimum(len(values), places + half + 1)
    return (padded[ends] - padded[starts]) / (ends - starts)


def confusion_matrix(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> bytes:
    """Draw a confusion matrix: rows are expected labels, the last column answers of no label.

    Each row is shaded by the share of its examples; right answers blue, wrong ones orange.
    """
    table = np.asarray(counts, dtype=float)
    rows, columns = table.shape
    side = max(4.2, 2.1 + 0.167 * rows)
    figure, axes = _canvas("", side + 0.5, side)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    right = np.eye(rows, columns, dtype=bool)
    axes.imshow(_shade(shares, right), aspect="equal", interpolation="nearest")
    names = [*labels, "(no label)"][:columns]
    size = 9.5 if rows <= 15 else 7.2
    axes.set_xticks(range(columns), names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(rows), list(labels), fontsize=size, parse_math=False)
    for row, column in zip(*np.nonzero(table), strict=True):
        dark = shares[row, column] > 0.55
        axes.text(
            column,
            row,
            f"{int(table[row, column])}",
            ha="center",
            va="center",
            fontsize=size - 0.5,
            color="white" if dark else _INK,
        )
    axes.set_xticks(np.arange(-0.5, columns), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.grid(visible=False, which="major")
    axes.grid(which="minor", color=_GRID, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("answered")
    axes.set_ylabel("expected")
    total, correct = int(table.sum()), int(table[right].sum())
    axes.set_title(f"{correct} of {total} right", loc="left", color=_INK, fontweight="bold")
    return _png(figure, tight=True)


def _shade(shares: Any, right: Any) -> Any:
    strength = np.where(shares > 0, 0.15 + 0.85 * shares, 0)[..., None]
    blue, orange = (np.array(_rgb(colour)) for colour in (_BLUE, _ORANGE))
    colour = np.where(right[..., None], blue, orange)
    return 1 - strength * (1 - colour)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def label_balance(before: Mapping[str, int], after: Mapping[str, int]) -> bytes:
    """Draw how many records each label has, before and after the cleaning, largest first."""
    labels = sorted({*before, *after}, key=lambda name: (after.get(name, 0), name))
    figure, axes = _canvas("Records of each label", _WIDTH, 1.4 + 0.21 * len(labels))
    places = np.arange(len(labels))
    axes.barh(places, [before.get(n, 0) for n in labels], height=0.78, color=_PALE, label="raw")
    kept = [after.get(name, 0) for name in labels]
    axes.barh(places, kept, height=0.42, color=_BLUE, label="kept")
    for place, count in enumerate(kept):
        axes.text(
            max(count, before.get(labels[place], 0)),
            place,
            f" {count}",
            va="center",
            fontsize=8,
            color=_INK,
        )
    axes.set_yticks(places, labels, fontsize=8.5, parse_math=False)
    axes.set_ylim(-0.7, len(labels) - 0.3)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.legend(frameon=False, loc="lower right")
    return _png(figure)


def drop_reasons(counts: Mapping[str, int], kept: int) -> bytes:
    """Draw why rows were dropped, most frequent first."""
    names = sorted(counts, key=lambda name: (counts[name], name))
    dropped = sum(counts.values())
    title = f"{kept:,} records kept, {dropped:,} dropped"
    figure, axes = _canvas(title, _WIDTH, 1.3 + 0.36 * max(1, len(names)))
    values = [counts[name] for name in names]
    _bars(axes, [name.replace("_", " ") for name in names], values, [_ORANGE] * len(names))
    if not names:
        axes.set_axis_off()
        axes.text(0, 0.5, "Nothing was dropped.", color=_GREY, transform=axes.transAxes)
    return _png(figure)


def length_histogram(lengths: Sequence[int], limit: int | None = None, unit: str = "") -> bytes:
    """Draw how long the inputs are, in ``unit`` (characters, tokens), with the limit if given."""
    unit = unit or "characters"
    figure, axes = _canvas(f"Length of the inputs in {unit}", _WIDTH, 3.4)
    bins = min(40, max(5, len(set(lengths))))
    axes.hist(list(lengths), bins=bins, color=_BLUE, edgecolor="white", linewidth=0.6)
    if len(lengths):
        middle = float(np.median(np.asarray(lengths)))
        axes.axvline(middle, color=_INK, linewidth=1.2, linestyle=":", label=f"median {middle:.0f}")
    if limit is not None:
        axes.axvline(limit, color=_ORANGE, linewidth=1.6, label=f"limit {limit:,}")
    axes.set_xlabel(unit)
    axes.set_ylabel("records")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False)
    return _png(figure)


def score_bars(scores: Mapping[str, float], target: float | None = None) -> bytes:
    """Draw accuracies (0-1) by name in the given order, the last one stressed, with the target."""
    names = list(scores)[::-1]
    colours = [_GREY] * len(names)
    if names:
        reached = target is None or scores[names[0]] >= target
        colours[0] = _GREEN if reached else _ORANGE
    figure, axes = _canvas("Accuracy on the golden set", _WIDTH, 1.5 + 0.42 * len(names))
    values = [scores[name] for name in names]
    _bars(axes, names, values, colours, "{:.1%}", inside=0.2)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    if target is not None:
        axes.axvline(target, color=_INK, linewidth=1.4, linestyle="--")
        axes.annotate(
            f"target {target:.1%}".replace(".0%", "%"),
            (target, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right" if target > 0.5 else "left",
            color=_INK,
        )
    return _png(figure)


def _bars(
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
            color="white" if within else _INK,
            fontweight="bold" if within else "normal",
        )
    axes.set_yticks(places, list(names), parse_math=False)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))


def _canvas(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=_INK, fontweight="bold", fontsize=11.5)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(colors=_INK, labelsize=9.5)
    return figure, axes


def _png(figure: Figure, *, tight: bool = False) -> bytes:
    stream = io.BytesIO()
    box = "tight" if tight else None
    figure.savefig(stream, format="png", metadata={"Software": None}, bbox_inches=box)
    return stream.getvalue()
