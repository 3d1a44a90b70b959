"""Agreement and consensus, on twenty ratings a text and on annotators with planted error rates.

Run as `python -m bench.agreement`. The first part needs ../shared/data/vader_20raters beside the
repository: 3,708 review snippets, each rated by 20 people from -4 to 4. Who gave which rating is
not known there, so nobody's reliability can be: consensus is judged by how well a few of the
ratings give the majority of all twenty (negative, neutral, positive). In the second part right
labels and error rates are known. Where `crowd-kit` is installed, its one-coin Dawid-Skene stands
beside.
"""

import ast
import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ftdm_assets.records.agreement import agreement
from ftdm_assets.records.reliability import Ballot, reliabilities

VADER = Path(__file__).resolve().parents[2] / "shared/data/vader_20raters"
MINIMUM = 0.8

Items = Sequence[Mapping[str, str]]
Consensus = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Planted:
    """Annotators with known rates of right labels; wrong ones fall on one rival by ``confusable``.

    Each of the ``items`` gets ``votes`` of the annotators, drawn without replacement.
    """

    title: str
    labels: int
    items: int
    votes: int
    rates: tuple[float, ...]
    confusable: float


SETS = (
    Planted("40 labels, 2 votes, rivals", 40, 300, 2, (0.97, 0.93, 0.9, 0.7), 0.8),
    Planted("40 labels, 2 votes, any error", 40, 300, 2, (0.97, 0.93, 0.9, 0.7), 0.0),
    Planted("40 labels, 3 votes, rivals", 40, 1500, 3, (0.97, 0.9, 0.85, 0.8, 0.6), 0.8),
    Planted("2 labels, 3 votes", 2, 500, 3, (0.95, 0.9, 0.8, 0.6, 0.55), 0.0),
    Planted("5 labels, 5 votes", 5, 400, 5, (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3), 0.5),
)


def planted(form: Planted, seed: int = 1) -> tuple[list[str], list[dict[str, str]]]:
    """Return the right labels, and each item's votes by annotator."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, form.labels, form.items)
    items: list[dict[str, str]] = []
    for right in truth.tolist():
        item = {}
        for who in draw.choice(len(form.rates), form.votes, replace=False).tolist():
            label = right
            if draw.random() > form.rates[who]:
                rival = draw.random() < form.confusable
                step = 1 if rival else int(draw.integers(1, form.labels))
                label = (right + step) % form.labels
            item[f"annotator {who}"] = f"label {label:02d}"
        items.append(item)
    return [f"label {label:02d}" for label in truth.tolist()], items


def ours(items: Items) -> Consensus:
    """Return the consensus label and confidence of each item."""
    trusted = reliabilities(items)
    found = []
    for item in items:
        shares = trusted.confidences([Ballot("", name, label) for name, label in item.items()])
        found.append(min(shares.items(), key=lambda entry: (-entry[1], entry[0])))
    return found


def majority(items: Items) -> Consensus:
    """Return the most frequent label (of several, the first by name) and its share."""
    found = []
    for item in items:
        counts = Counter(item.values())
        label = min(counts, key=lambda name: (-counts[name], name))
        found.append((label, counts[label] / len(item)))
    return found


def crowd_kit(items: Items) -> Consensus:
    """Return what crowd-kit's one-coin Dawid-Skene says."""
    from crowdkit.aggregation import OneCoinDawidSkene

    rows = [(place, *vote) for place, item in enumerate(items) for vote in item.items()]
    frame = pd.DataFrame(rows, columns=["task", "worker", "label"])
    shares = OneCoinDawidSkene(n_iter=50).fit_predict_proba(frame).sort_index()
    return list(zip(shares.idxmax(axis=1), shares.max(axis=1), strict=True))


def ratings() -> list[list[int]]:
    """Return the twenty ratings of each snippet."""
    path = VADER / "amazonReviewSnippets_anonDataRatings.txt"
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [list(ast.literal_eval(line.split("\t")[3])) for line in lines]


def raw_frame(rows: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Return ratings as the columns that agreement reads; a seat is a place, not a person."""
    cells = [
        (f"{item}/{seat}", f"snippet {item}", label, f"seat {seat:02d}", "")
        for item, row in enumerate(rows)
        for seat, label in enumerate(row)
    ]
    return pd.DataFrame(
        cells, columns=["record_id", "input", "output", "annotator", "annotated_at"]
    )


def _sign(rating: int) -> str:
    return "negative" if rating < 0 else "positive" if rating > 0 else "neutral"


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _vader() -> None:
    rows = ratings()
    classes = [[_sign(rating) for rating in row] for row in rows]
    for title, votes in (("nine ratings", rows), ("three classes", classes)):
        started = time.perf_counter()
        found = agreement(raw_frame([[str(vote) for vote in row] for row in votes]))
        seconds = time.perf_counter() - started
        _write(
            f"vader_20raters, {title}: alpha {found.alpha:.4f} over {found.items} texts and "
            f"{sum(map(len, votes))} ratings, {seconds:.1f} s"
        )
    whole = [Counter(row).most_common(2) for row in classes]
    clear = [n for n, top in enumerate(whole) if len(top) == 1 or top[0][1] > top[1][1]]
    truth = [whole[n][0][0] for n in clear]
    draw = np.random.default_rng(1)
    for few in (3, 5, 9):
        items = []
        for n in clear:
            seats = draw.choice(20, few, replace=False).tolist()
            items.append({f"seat {seat:02d}": classes[n][seat] for seat in seats})
        _table(f"{few} of the 20 ratings, against the majority of all", truth, items)


def _table(title: str, truth: Sequence[str], items: Items) -> None:
    _write(title)
    methods = {"reliability": ours, "majority": majority}
    if importlib.util.find_spec("crowdkit"):
        methods["crowd-kit"] = crowd_kit
    conflict = np.array([len(set(item.values())) > 1 for item in items])
    for name, method in methods.items():
        started = time.perf_counter()
        found = method(items)
        seconds = time.perf_counter() - started
        right = np.array([label == true for (label, _), true in zip(found, truth, strict=True)])
        sure = conflict & np.array([confidence >= MINIMUM for _, confidence in found])
        kept = f"{sure.sum()} of {conflict.sum()} conflicts at {MINIMUM} or more"
        share = f", {right[sure].mean():.1%} of them right" if sure.any() else ""
        _write(f"  {name:12} right {right.mean():.1%}; {kept}{share}; {seconds:.2f} s")


def main() -> None:
    """Print the figures of the README."""
    if VADER.exists():
        _vader()
    else:
        _write(f"vader_20raters is not at {VADER}; only the planted sets follow")
    for form in SETS:
        truth, items = planted(form)
        rates = ", ".join(f"{rate:.0%}" for rate in form.rates)
        _table(f"planted: {form.title}; annotators right in {rates}", truth, items)


if __name__ == "__main__":
    main()
