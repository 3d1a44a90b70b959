"""Pictures for the UI: PNG bytes from plain numbers, and the markdown that shows them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ftdm_assets.drawing import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    ORANGE,
    PALE,
    WIDTH,
    bars,
    canvas,
    png,
    rgb,
)

_MOST_FIELDS = 40


def markdown(picture: bytes, title: str = "") -> str:
    """Return an image as markdown with a data URI."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})"


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> bytes:
    """Draw the loss of each step and its running mean."""
    figure, axes = canvas("Training loss", WIDTH, 3.6)
    axes.plot(steps, losses, color=PALE, linewidth=1.2, label="each step")
    axes.plot(steps, _running_mean(losses), color=BLUE, linewidth=2.2, label="running mean")
    if len(losses):
        axes.set_ylim(0, max(losses) * 1.06 or 1)
        last = float(_running_mean(losses)[-1])
        axes.annotate(
            f"{last:.3f}",
            (steps[-1], last),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            color=BLUE,
            fontweight="bold",
        )
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.legend(frameon=False)
    return png(figure)


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
    figure, axes = canvas("", side + 0.5, side)
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
            color="white" if dark else INK,
        )
    axes.set_xticks(np.arange(-0.5, columns), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.grid(visible=False, which="major")
    axes.grid(which="minor", color=GRID, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("answered")
    axes.set_ylabel("expected")
    total, correct = int(table.sum()), int(table[right].sum())
    axes.set_title(f"{correct} of {total} right", loc="left", color=INK, fontweight="bold")
    return png(figure, tight=True)


def _shade(shares: Any, right: Any) -> Any:
    strength = np.where(shares > 0, 0.15 + 0.85 * shares, 0)[..., None]
    blue, orange = (np.array(rgb(colour)) for colour in (BLUE, ORANGE))
    colour = np.where(right[..., None], blue, orange)
    return 1 - strength * (1 - colour)


def label_balance(
    before: Mapping[str, int], after: Mapping[str, int], title: str = "Records of each label"
) -> bytes:
    """Draw how many records each label has, before and after the cleaning, largest first."""
    labels = sorted({*before, *after}, key=lambda name: (after.get(name, 0), name))
    figure, axes = canvas(title, WIDTH, 1.4 + 0.21 * len(labels))
    places = np.arange(len(labels))
    axes.barh(places, [before.get(n, 0) for n in labels], height=0.78, color=PALE, label="raw")
    kept = [after.get(name, 0) for name in labels]
    axes.barh(places, kept, height=0.42, color=BLUE, label="kept")
    for place, count in enumerate(kept):
        axes.text(
            max(count, before.get(labels[place], 0)),
            place,
            f" {count}",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_yticks(places, labels, fontsize=8.5, parse_math=False)
    axes.set_ylim(-0.7, len(labels) - 0.3)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.legend(frameon=False, loc="lower right")
    return png(figure)


def drop_reasons(counts: Mapping[str, int], kept: int) -> bytes:
    """Draw why rows were dropped, most frequent first."""
    names = sorted(counts, key=lambda name: (counts[name], name))
    dropped = sum(counts.values())
    title = f"{kept:,} records kept, {dropped:,} dropped"
    figure, axes = canvas(title, WIDTH, 1.3 + 0.36 * max(1, len(names)))
    values = [counts[name] for name in names]
    bars(axes, [name.replace("_", " ") for name in names], values, [ORANGE] * len(names))
    if not names:
        axes.set_axis_off()
        axes.text(0, 0.5, "Nothing was dropped.", color=GREY, transform=axes.transAxes)
    return png(figure)


def length_histogram(lengths: Sequence[int], limit: int | None = None, unit: str = "") -> bytes:
    """Draw how long the inputs are, in ``unit`` (characters, tokens), with the limit if given."""
    unit = unit or "characters"
    figure, axes = canvas(f"Length of the inputs in {unit}", WIDTH, 3.4)
    bins = min(40, max(5, len(set(lengths))))
    axes.hist(list(lengths), bins=bins, color=BLUE, edgecolor="white", linewidth=0.6)
    if len(lengths):
        middle = float(np.median(np.asarray(lengths)))
        axes.axvline(middle, color=INK, linewidth=1.2, linestyle=":", label=f"median {middle:.0f}")
    if limit is not None:
        axes.axvline(limit, color=ORANGE, linewidth=1.6, label=f"limit {limit:,}")
    axes.set_xlabel(unit)
    axes.set_ylabel("records")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False)
    return png(figure)


def field_bars(scores: Mapping[str, float]) -> bytes:
    """Draw the F1 (0-1) of each field, the weakest lowest; of many fields the weakest."""
    names = sorted(scores, key=lambda name: (scores[name], name))[:_MOST_FIELDS]
    figure, axes = canvas("F1 of each field", WIDTH, 1.5 + 0.36 * max(1, len(names)))
    values = [scores[name] for name in names]
    bars(axes, names, values, [BLUE] * len(names), "{:.1%}", inside=0.2)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    return png(figure)


def score_bars(
    scores: Mapping[str, float], target: float | None = None, measure: str = "Accuracy"
) -> bytes:
    """Draw scores (0-1) by name in the given order, the last one stressed, with the target."""
    names = list(scores)[::-1]
    colours = [GREY] * len(names)
    if names:
        reached = target is None or scores[names[0]] >= target
        colours[0] = GREEN if reached else ORANGE
    figure, axes = canvas(f"{measure} on the golden set", WIDTH, 1.5 + 0.42 * len(names))
    values = [scores[name] for name in names]
    bars(axes, names, values, colours, "{:.1%}", inside=0.2)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    if target is not None:
        axes.axvline(target, color=INK, linewidth=1.4, linestyle="--")
        axes.annotate(
            f"target {target:.1%}".replace(".0%", "%"),
            (target, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right" if target > 0.5 else "left",
            color=INK,
        )
    return png(figure)
