"""Agreement against Krippendorff's own example and by hand."""

import pandas as pd
import pytest

from ftdm_assets.records.agreement import PairAgreement, agreement

COLUMNS = ["record_id", "input", "output", "annotator", "annotated_at"]


def frame(*votes: tuple[str, str, str], times: list[str] | None = None) -> pd.DataFrame:
    rows = [
        (f"r{n}", text, output, annotator, times[n] if times else "")
        for n, (text, output, annotator) in enumerate(votes)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_krippendorffs_published_example() -> None:
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", example C: nominal 0.743.
    a = ["1", "2", "3", "3", "2", "1", "4", "1", "2", ".", ".", "."]
    b = ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", ".", "3"]
    c = [".", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", "."]
    d = ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", "."]
    votes = [
        (f"unit {unit}", value, name)
        for name, values in zip("abcd", (a, b, c, d), strict=True)
        for unit, value in enumerate(values)
        if value != "."
    ]
    result = agreement(frame(*votes))
    assert result.alpha == pytest.approx(0.743, abs=5e-4)
    assert result.items == 11
    assert result.annotators == ("a", "b", "c", "d")
    assert PairAgreement("a", "b", 9, 8 / 9) in result.pairs


def test_inputs_count_as_the_same_without_case_and_white_space() -> None:
    result = agreement(
        frame(("Where?", "x", "ana"), ("where", "x", "ben"), ("b", "y", "ana"), ("B ", "z", "ben"))
    )
    assert result.items == 2
    assert result.pairs == (PairAgreement("ana", "ben", 2, 0.5),)


def test_the_latest_say_of_an_annotator_counts() -> None:
    votes = [("a", "x", "ana"), ("a", "y", "ana"), ("a", "x", "ben")]
    late_x = agreement(frame(*votes, times=["2026-02-01", "2026-01-01", "2026-01-01"]))
    assert late_x.pairs[0].agreement == 1
    late_y = agreement(frame(*votes, times=["2026-01-01", "2026-02-01", "2026-01-01"]))
    assert late_y.pairs[0].agreement == 0


def test_nothing_to_measure() -> None:
    alone = agreement(frame(("a", "x", "ana"), ("b", "x", "ben"), ("", "x", "ana"), ("", "y", "b")))
    assert (alone.alpha, alone.items, alone.annotators, alone.pairs) == (None, 0, (), ())
    one_label = agreement(frame(("a", "x", "ana"), ("a", "x", "ben")))
    assert (one_label.alpha, one_label.items) == (None, 1)
    assert one_label.pairs == (PairAgreement("ana", "ben", 1, 1.0),)


def test_the_order_of_the_rows_does_not_matter() -> None:
    votes = frame(*[(f"t{n % 4}", "xyz"[n % 3], "abc"[n // 4]) for n in range(12)])
    assert agreement(votes) == agreement(votes.iloc[::-1])
