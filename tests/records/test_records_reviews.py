"""Reviews: what is asked again, and that an answer outranks the labels, with a full ledger."""

from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.contract import RAW_COLUMNS
from ftdm_assets.records.doubts import in_doubt
from ftdm_assets.records.label_errors import Suspect

SETTINGS = CleanSettings()
NEAR = "the parcel that I ordered last week has not arrived at my door"


def raw(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    """Rows of (input, output, annotator, role)."""
    return pd.DataFrame(
        [
            (f"r{n}", text, output, who, "", "desk", "internal", who, role, n)
            for n, (text, output, who, role) in enumerate(rows, start=1)
        ],
        columns=list(RAW_COLUMNS),
    )


def asked(frame: pd.DataFrame, *suspects: Suspect) -> list[str]:
    return [item.input for item in in_doubt(frame, SETTINGS, suspects)]


def test_what_is_in_doubt_comes_in_order_and_as_the_source_has_it() -> None:
    text = "mail to a@b.org"
    frame = raw(
        (text, "a", "ana", "label"), (text, "b", "eva", "label"), (text, "c", "lea", "label"),
        ("weak", "a", "ana", "label"), ("Weak!", "a", "ben", "label"),
        ("weak", "b", "kim", "label"),
        ("sure", "a", "ana", "label"), ("sure", "a", "ben", "label"), ("odd", "b", "ana", "label"),
    )  # fmt: skip
    suspect = Suspect("r9", "b", "a", 0.91)
    items = in_doubt(frame, CleanSettings(minimum_consensus=0.95), [suspect])
    assert [item.input for item in items] == [text, "Weak!", "odd"]
    assert items[0].confidence < items[1].confidence
    assert items[0].record_ids == ("r1", "r2", "r3")
    assert items[2].why == (
        "the label 'b' is wrong with a probability of 0.91; texts like it are 'a'"
    )
    # Of a label that was changed since, and of a record that is gone, nothing is asked.
    assert "odd" not in asked(frame, Suspect("r9", "x", "a", 0.9), Suspect("r99", "b", "a", 0.9))


def test_the_rule_is_that_of_the_cleaning() -> None:
    frame = raw(("x", "a", "ana", "label"), ("x", "b", "ben", "label"), ("x", "a", "eva", "label"))
    lost = clean(frame, {}, CleanSettings(minimum_consensus=0.99))
    assert len(lost.records) == 0
    assert [i.record_ids for i in in_doubt(frame, CleanSettings(minimum_consensus=0.99))] == [
        item.record_ids for item in lost.review
    ]
    assert asked(frame) == []
    assert clean(frame, {}).records["output"].tolist() == ["a"]


def test_a_review_outranks_the_labels_and_is_not_asked_again() -> None:
    labels = [("one text", "a", who, "label") for who in ("ana", "ben", "eva")]
    frame = raw(*labels, ("One text!", "b", "ana", "review"))
    result = clean(frame, {})
    assert result.records["output"].tolist() == ["b"]
    dropped = result.ledger[result.ledger["outcome"] == "dropped"]
    assert set(dropped["reason"]) == {"superseded_by_review"}
    assert set(dropped["lost_to"]) == {"r4"}
    assert asked(frame) == []
    assert asked(frame, Suspect("r1", "a", "b", 0.9)) == []


def test_a_review_outranks_the_labels_of_near_duplicates_too() -> None:
    frame = raw(
        (NEAR, "a", "ana", "label"), (f"{NEAR}s", "b", "ben", "label"),
        (f"{NEAR} x", "b", "eva", "label"),
    )  # fmt: skip
    settled = clean(frame, {})
    assert settled.records["output"].tolist() == ["b"]
    reviewed = raw(*frame[["input", "output", "annotator", "role"]].itertuples(index=False),
                   (NEAR, "a", "kim", "review"))  # fmt: skip
    result = clean(reviewed, {})
    assert result.records["record_id"].tolist() == ["r4"]
    assert result.counts["superseded_by_review"] == 3
    assert asked(reviewed) == []


def test_a_review_by_somebody_who_often_errs_still_decides() -> None:
    rows = []
    for n in range(30):
        text = f"item {n * 7919} of {n * 31}"
        rows += [(text, "a", who, "label") for who in ("ana", "ben", "eva")]
        rows.append((text, "b", "kim", "label"))
    frame = raw(*rows, ("in doubt", "a", "ana", "label"), ("in doubt", "b", "ben", "label"))
    assert clean(frame, {}).reliability.of("kim") < 0.5
    assert asked(frame) == ["in doubt"]
    reviewed = raw(
        *frame[["input", "output", "annotator", "role"]].itertuples(index=False),
        ("in doubt", "b", "kim", "review"),
    )
    kept = clean(reviewed, {}).records
    assert kept.loc[kept["input"] == "in doubt", "output"].tolist() == ["b"]


def test_reviews_that_are_a_tie_are_asked_again() -> None:
    assert asked(raw(("x", "a", "ana", "review"), ("x", "b", "ben", "review"))) == ["x"]


def test_what_was_reviewed_is_no_suspect() -> None:
    rows = [(f"the card number {n * 7919} is lost", "card", "ana", "label") for n in range(40)]
    rows += [(f"a parcel from {n * 7919} is late", "post", "ana", "label") for n in range(40)]
    wrong = "the card number 11 is lost"
    labelled = clean(raw(*rows, (wrong, "post", "ana", "label")), {})
    assert [s.record_id for s in labelled.suspects] == ["r81"]
    reviewed = clean(raw(*rows, (wrong, "post", "ana", "review")), {})
    assert reviewed.suspects == ()
    assert "r81" in set(reviewed.records["record_id"])


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["x y", "X y!", "other", "third one", "", NEAR, f"{NEAR}s"]),
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
    assert in_doubt(frame.iloc[order], SETTINGS) == in_doubt(frame, SETTINGS)
