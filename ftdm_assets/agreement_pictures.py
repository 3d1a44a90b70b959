"""Pictures of how far annotators agree: who with whom, and on which labels."""

from typing import Any

import numpy as np

from ftdm_assets.drawing import BLUE, GREY, INK, ORANGE, PALE, WIDTH, canvas, png, rgb
from ftdm_assets.records.agreement import AgreementResult

_MOST_ANNOTATORS = 16
_MOST_LABELS = 60
_TENTATIVE = 0.667  # Krippendorff: below it not even tentative conclusions are allowed.


def agreement_matrix(result: AgreementResult) -> bytes:
    """Draw Cohen's kappa of each two annotators with the inputs that they share.

    The diagonal compares an annotator with all others. Of many annotators, those with the most
    shared inputs are shown.
    """
    shown = sorted(result.by_annotator, key=lambda one: (-one.items, one.annotator))
    names = sorted(one.annotator for one in shown[:_MOST_ANNOTATORS])
    places = {name: place for place, name in enumerate(names)}
    kappas = np.full((len(names), len(names)), np.nan)
    notes: dict[tuple[int, int], str] = {}
    for pair in result.pairs:
        if pair.first in places and pair.second in places:
            for names_of in ((pair.first, pair.second), (pair.second, pair.first)):
                place = (places[names_of[0]], places[names_of[1]])
                notes[place] = _note(pair.kappa, pair.items)
                kappas[place] = np.nan if pair.kappa is None else pair.kappa
    for one in result.by_annotator:
        if one.annotator in places:
            place = (places[one.annotator],) * 2
            notes[place] = _note(one.kappa, one.items)
            kappas[place] = np.nan if one.kappa is None else one.kappa
    if not names:
        return _nothing("Agreement of annotators")
    cell = min(0.62, 6.2 / len(names))
    side = 2.2 + cell * max(2, len(names))
    figure, axes = canvas("", max(side + 0.6, 4.4), side)
    axes.imshow(_shades(kappas), aspect="equal", interpolation="nearest")
    for (row, column), note in notes.items():
        own, dark = row == column, abs(np.nan_to_num(kappas[row, column])) > 0.6
        axes.text(
            column,
            row,
            note,
            ha="center",
            va="center",
            fontsize=min(7.5, 18 * cell),
            color="white" if dark else INK,
            fontweight="bold" if own else "normal",
        )
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=8.5)
    axes.set_xlabel("kappa and shared texts; bold: against all others")
    many = f"; {len(names)} of {len(shown)} annotators" if len(names) < len(shown) else ""
    alpha = "not measurable" if result.alpha is None else f"{result.alpha:.3f}"
    title = f"Krippendorff's alpha {alpha} on {result.items:,} texts{many}"
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontweight="bold", fontsize=10.5)
    return png(figure, tight=True)


def label_agreement(result: AgreementResult) -> bytes:
    """Draw each label's kappa against all other labels, the least agreed first, with its inputs.

    Of many labels, those that the annotators agree on least are shown.
    """
    ranked = sorted(result.by_label, key=lambda one: (_low(one.kappa), one.label))
    shown = ranked[:_MOST_LABELS][::-1]
    if not shown:
        return _nothing("Agreement on each label")
    left = len(ranked) - len(shown)
    title = f"Kappa of each label against the rest (dashed: {_TENTATIVE})"
    title += f"; {left} labels with more are left out" if left else ""
    figure, axes = canvas(title, WIDTH, 1.3 + 0.24 * len(shown))
    places = np.arange(len(shown))
    values = [0.0 if one.kappa is None else one.kappa for one in shown]
    colours = [ORANGE if value < _TENTATIVE else BLUE for value in values]
    axes.barh(places, values, height=0.66, color=colours)
    for place, one in enumerate(shown):
        kappa = "not measurable" if one.kappa is None else f"{one.kappa:.2f}"
        texts = f"{one.items:,} text{'s' * (one.items != 1)}"
        start = max(0.0, values[place])
        note = f" {kappa}, {texts}"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        axes.text(start + 0.006, place, note.strip(), va="center", fontsize=8, color=INK, bbox=box)
    axes.set_yticks(places, [one.label for one in shown], fontsize=8.5, parse_math=False)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlim(min(0.0, *values, 0.0) * 1.05, 1.32)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.axvline(_TENTATIVE, color=GREY, linewidth=1.2, linestyle="--", zorder=0)
    axes.grid(visible=False, axis="y")
    return png(figure)


def _nothing(title: str) -> bytes:
    figure, axes = canvas(title, WIDTH, 1.5)
    axes.set_axis_off()
    axes.text(0, 0.5, "No text was labelled by two.", color=GREY, transform=axes.transAxes)
    return png(figure)


def _low(kappa: float | None) -> float:
    """Return what sorts labels: those that cannot be measured behind all others."""
    return 2.0 if kappa is None else kappa


def _note(kappa: float | None, items: int) -> str:
    return f"{'–' if kappa is None else f'{kappa:.2f}'}\n{items:,}"  # noqa: RUF001


def _shades(kappas: Any) -> Any:
    """Return colours: blue the more agreement, orange below chance, pale where nobody met."""
    strength = np.abs(np.nan_to_num(kappas))[..., None]
    blue, orange, pale = (np.array(rgb(colour)) for colour in (BLUE, ORANGE, PALE))
    colour = np.where(np.nan_to_num(kappas)[..., None] < 0, orange, blue)
    shade = 1 - strength * (1 - colour)
    return np.where(np.isnan(kappas)[..., None], 0.6 + 0.4 * pale, shade)
