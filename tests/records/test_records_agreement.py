"""Agreement against published figures, independent implementations, and by hand."""

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from ftdm_assets.records.agreement import PairAgreement, agreement, kappa

COLUMNS = ["record_id", "input", "output", "annotator", "annotated_at"]
VADER = Path(__file__).resolve().parents[3] / "shared/data/vader_20raters"


def frame(*votes: tuple[str, str, str], times: list[str] | None = None) -> pd.DataFrame:
    rows = [
        (f"r{n}", text, output, annotator, times[n] if times else "")
        for n, (text, output, annotator) in enumerate(votes)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def coincidence_alpha(items: Sequence[Sequence[str]]) -> float:
    """Nominal alpha from the matrix of coincidences, by Krippendorff's (2011) formula."""
    labels = {label: place for place, label in enumerate(sorted({x for i in items for x in i}))}
    matrix = np.zeros((len(labels), len(labels)))
    for item in items:
        if len(item) > 1:
            counts = np.zeros(len(labels))
            for label in item:
                counts[labels[label]] += 1
            matrix += (np.outer(counts, counts) - np.diag(counts)) / (len(item) - 1)
    totals, n = matrix.sum(axis=0), matrix.sum()
    observed = n - np.trace(matrix)
    expected = (n**2 - (totals**2).sum()) / (n - 1)
    return float(1 - observed / expected)


KRIPPENDORFF = {
    "a": ["1", "2", "3", "3", "2", "1", "4", "1", "2", ".", ".", "."],
    "b": ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", ".", "3"],
    "c": [".", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", "."],
    "d": ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", "."],
}


def test_krippendorffs_published_example() -> None:
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", example C: nominal 0.743.
    votes = [
        (f"unit {unit}", value, name)
        for name, values in KRIPPENDORFF.items()
        for unit, value in enumerate(values)
        if value != "."
    ]
    result = agreement(frame(*votes))
    assert result.alpha == pytest.approx(0.743, abs=5e-4)
    assert result.items == 11
    assert result.annotators == ("a", "b", "c", "d")
    pair = result.pairs[0]
    assert (pair.first, pair.second, pair.items, pair.agreement) == ("a", "b", 9, 8 / 9)
    a, b = KRIPPENDORFF["a"][:9], KRIPPENDORFF["b"][:9]
    assert pair.kappa == pytest.approx(cohen_kappa_score(a, b))


def test_cohens_published_example() -> None:
    # Cohen 1960, table 1: 200 cases, agreement 0.70 where chance gives 0.41, so 0.492.
    table = {
        ("1", "1"): 88, ("1", "2"): 14, ("1", "3"): 18,
        ("2", "1"): 10, ("2", "2"): 40, ("2", "3"): 10,
        ("3", "1"): 2, ("3", "2"): 6, ("3", "3"): 12,
    }  # fmt: skip
    assert kappa(table) == pytest.approx(0.492, abs=5e-4)


def test_each_annotator_and_each_label_by_hand() -> None:
    # ana and ben meet on four texts and differ on one; cy meets both on one and agrees.
    result = agreement(
        frame(
            ("1", "x", "ana"), ("1", "x", "ben"), ("2", "y", "ana"), ("2", "y", "ben"),
            ("3", "x", "ana"), ("3", "y", "ben"), ("4", "y", "ana"), ("4", "y", "ben"),
            ("4", "y", "cy"), ("5", "x", "cy"),
        )
    )  # fmt: skip
    ana, ben, cy = result.by_annotator
    assert [(one.annotator, one.items) for one in result.by_annotator] == [
        ("ana", 4), ("ben", 4), ("cy", 1)
    ]  # fmt: skip
    # ana against ben and cy: 5 comparisons, 4 agree; ana gives x 2 in 5, the others 1 in 5.
    chance = 0.4 * 0.2 + 0.6 * 0.8
    assert ana.agreement == 0.8
    assert ana.kappa == pytest.approx((0.8 - chance) / (1 - chance))
    assert ben.agreement == 0.8
    # cy gave only y, and met only y there: chance alone agrees always.
    assert (cy.agreement, cy.kappa) == (1.0, None)
    x, y = result.by_label
    assert [(one.label, one.items) for one in result.by_label] == [("x", 2), ("y", 3)]
    # All pairs in both directions: 12 comparisons, 10 agree; x is 3 in 12.
    chance = 0.25**2 + 0.75**2
    assert x.kappa == y.kappa == pytest.approx((10 / 12 - chance) / (1 - chance))


def test_inputs_count_as_the_same_without_case_and_white_space() -> None:
    result = agreement(
        frame(("Where?", "x", "ana"), ("where", "x", "ben"), ("b", "y", "ana"), ("B ", "z", "ben"))
    )
    assert result.items == 2
    assert (result.pairs[0].items, result.pairs[0].agreement) == (2, 0.5)


def test_the_latest_say_of_an_annotator_counts() -> None:
    votes = [("a", "x", "ana"), ("a", "y", "ana"), ("a", "x", "ben")]
    late_x = agreement(frame(*votes, times=["2026-02-01", "2026-01-01", "2026-01-01"]))
    assert late_x.pairs[0].agreement == 1
    late_y = agreement(frame(*votes, times=["2026-01-01", "2026-02-01", "2026-01-01"]))
    assert late_y.pairs[0].agreement == 0


def test_nothing_to_measure() -> None:
    alone = agreement(frame(("a", "x", "ana"), ("b", "x", "ben"), ("", "x", "ana"), ("", "y", "b")))
    assert (alone.alpha, alone.items, alone.annotators, alone.pairs) == (None, 0, (), ())
    assert (alone.by_annotator, alone.by_label) == ((), ())
    one_label = agreement(frame(("a", "x", "ana"), ("a", "x", "ben")))
    assert (one_label.alpha, one_label.items) == (None, 1)
    assert one_label.pairs == (PairAgreement("ana", "ben", 1, 1.0, None),)
    assert [one.kappa for one in one_label.by_label] == [None]


def test_the_order_of_the_rows_does_not_matter() -> None:
    votes = frame(*[(f"t{n % 4}", "xyz"[n % 3], "abc"[n // 4]) for n in range(12)])
    assert agreement(votes) == agreement(votes.iloc[::-1])


LABEL = st.sampled_from(["x", "y", "z"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(LABEL, LABEL, st.one_of(st.none(), LABEL)), min_size=1, max_size=25))
def test_figures_equal_independent_ones_and_are_never_nan(
    rows: list[tuple[str, str, str | None]],
) -> None:
    votes = [
        (f"text {n}", label, name)
        for n, row in enumerate(rows)
        for name, label in zip(("ana", "ben", "cy"), row, strict=True)
        if label is not None
    ]
    result = agreement(frame(*votes))
    items = [[label for label in row if label] for row in rows]
    if len({label for item in items for label in item}) > 1:
        assert result.alpha == pytest.approx(coincidence_alpha(items))
    first, second = [row[0] for row in rows], [row[1] for row in rows]
    if len({*first, *second}) > 1:
        assert result.pairs[0].kappa == pytest.approx(cohen_kappa_score(first, second))
    figures = [pair.kappa for pair in result.pairs]
    figures += [one.kappa for one in result.by_annotator]
    figures += [one.kappa for one in result.by_label]
    assert all(figure is None or -1 <= figure <= 1 for figure in figures)


@pytest.mark.skipif(not VADER.exists(), reason="vader_20raters is not beside the repository")
def test_twenty_ratings_an_item_give_the_alpha_of_an_independent_implementation() -> None:
    lines = (VADER / "amazonReviewSnippets_anonDataRatings.txt").read_text("utf-8").splitlines()
    cells = [line.split("\t") for line in lines]
    ratings = {
        cell[0]: [str(value) for value in ast.literal_eval(cell[3])] for cell in cells[:1500]
    }
    votes = [
        (item.replace("_", " of "), label, f"seat {place:02d}")
        for item, row in ratings.items()
        for place, label in enumerate(row)
    ]
    result = agreement(frame(*votes))
    assert result.items == 1500
    assert result.alpha == pytest.approx(coincidence_alpha(list(ratings.values())), abs=1e-9)
    assert len(result.pairs) == 190
