"""Reviews: what is asked again, and that an answer outranks the labels, with a full ledger."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdm_assets.records.adjudication import needs_review
from ftdm_assets.records.clean import clean
from ftdm_assets.records.contract import RAW_COLUMNS


def raw(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    """Rows of (input, output, annotator, role)."""
    return pd.DataFrame(
        [
            (f"r{n}", text, output, who, "", "desk", "internal", who, role, n)
            for n, (text, output, who, role) in enumerate(rows, start=1)
        ],
        columns=list(RAW_COLUMNS),
    )


def test_what_is_in_doubt_comes_in_order() -> None:
    frame = raw(
        ("tie", "a", "ana", "label"), ("Tie!", "b", "ben", "label"),
        ("weak", "a", "ana", "label"), ("weak", "a", "ben", "label"), ("weak", "b", "eva", "label"),
        ("sure", "a", "ana", "label"), ("sure", "a", "ben", "label"),
        ("odd", "b", "ana", "label"),
    )  # fmt: skip
    items = needs_review(frame, below=0.7, suspects={"r8"})
    assert [(i.input, i.reason) for i in items] == [
        ("Tie!", "tie"), ("weak", "low_agreement"), ("odd", "suspected_label_error"),
    ]  # fmt: skip
    assert items[1].votes == (("a", 2), ("b", 1))
    assert [i.input for i in needs_review(frame, below=0.6)] == ["Tie!"]
    with pytest.raises(ValueError, match="use a share"):
        needs_review(frame, below=0)


def test_a_review_outranks_the_labels_and_is_not_asked_again() -> None:
    labels = [("one text", "a", who, "label") for who in ("ana", "ben", "eva")]
    frame = raw(*labels, ("One text!", "b", "ana", "review"))
    result = clean(frame, {})
    assert result.records["output"].tolist() == ["b"]
    dropped = result.ledger[result.ledger["outcome"] == "dropped"]
    assert set(dropped["reason"]) == {"superseded_by_review"}
    assert set(dropped["lost_to"]) == {"r4"}
    assert needs_review(frame, below=1) == []


def test_reviews_that_are_a_tie_are_asked_again() -> None:
    frame = raw(("x", "a", "ana", "review"), ("x", "b", "ben", "review"))
    assert [item.reason for item in needs_review(frame, below=0.7)] == ["tie"]


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["x y", "X y!", "other", "third one", ""]),
        st.sampled_from(["a", "b", ""]),
        st.sampled_from(["ana", "ben", "eva"]),
        st.sampled_from(["label", "review"]),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.randoms())
def test_every_row_is_in_the_ledger_once_whatever_the_order(rows: Any, random: Any) -> None:
    frame = raw(*rows)
    result = clean(frame, {})
    assert sorted(result.ledger["record_id"]) == sorted(frame["record_id"])
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = clean(frame.iloc[order], {})
    assert shuffled.records.equals(result.records)
    assert needs_review(frame.iloc[order], 0.7) == needs_review(frame, 0.7)
