"""The contract: every breach is named, none hides another, and inputs are cleaning's business."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.records.contract import (
    RAW_COLUMNS,
    Problem,
    contract_problems,
    parse_time,
    unknown_labels,
)

GOOD = {
    "record_id": "r1",
    "input": "Where is it?",
    "output": "order_status",
    "annotator": "ana",
    "annotated_at": "2026-03-01T09:00:00Z",
    "source": "desk",
    "data_class": "internal",
    "actor": "ana",
    "role": "label",
    "row": 1,
}


def frame(*changes: dict[str, object]) -> pd.DataFrame:
    rows = [
        {**GOOD, "record_id": f"r{n}", "row": n, **change}
        for n, change in enumerate(changes, start=1)
    ]
    return pd.DataFrame(rows)


def test_a_good_frame_has_no_problems() -> None:
    inputs: list[dict[str, object]] = [{}, {"input": ""}, {"input": "x" * 10_000}]
    assert contract_problems(frame(*inputs, {"annotated_at": ""}, {"digest": "abc"})) == []


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("output", "", "is missing; label the record"),
        ("output", "  ", "'  ' is missing; label the record"),
        ("output", None, "is missing; fill it in at the source"),
        ("input", None, "is missing; fill it in at the source"),
        ("annotator", " ", "' ' is blank; fill it in at the source"),
        ("source", "", "is blank; fill it in at the source"),
        ("annotated_at", "yesterday", "'yesterday' is no ISO 8601 time; write it like"),
        ("annotated_at", "2026-02-30", "'2026-02-30' is no ISO 8601 time"),
        ("data_class", "secret", "'secret' is none of public, internal, confidential, restricted"),
        ("row", 0, "'0' is below 1"),
    ],
)
def test_a_breach_is_named(column: str, value: object, reason: str) -> None:
    [problem] = contract_problems(frame({}, {column: value}))
    assert problem.record_id == "r2"
    assert problem.row == (0 if column == "row" else 2)
    assert problem.column == column
    assert problem.reason.startswith(reason)


def test_all_breaches_are_reported_in_row_order() -> None:
    problems = contract_problems(
        frame({"output": "", "data_class": "x"}, {}, {"record_id": "r2"}, {"annotated_at": "x"})
    )
    assert [(p.row, p.column) for p in problems] == [
        (1, "output"),
        (1, "data_class"),
        (3, "record_id"),
        (4, "annotated_at"),
    ]
    assert problems[2].reason.startswith("was given to row 2 already")


def test_a_missing_column_and_an_empty_frame() -> None:
    [problem] = contract_problems(frame({}).drop(columns="annotator"))
    assert (problem.row, problem.column) == (0, "annotator")
    assert contract_problems(frame({}).iloc[:0]) == [
        Problem(0, "", "row", "there are no records; add labelled records to the source")
    ]


def test_the_index_of_the_frame_does_not_matter() -> None:
    mixed = frame({}, {"output": ""}, {})
    mixed.index = pd.Index([7, 7, 9])
    assert [p.row for p in contract_problems(mixed)] == [2]


def test_a_column_of_another_type_is_a_problem() -> None:
    [problem] = contract_problems(frame({}).assign(row="one"))
    assert problem.column == "row"


VALUES = st.one_of(st.none(), st.text(max_size=5), st.integers(-3, 3), st.floats(), st.booleans())


@given(st.dictionaries(st.sampled_from(RAW_COLUMNS[:-1]), VALUES))
def test_no_value_breaks_the_check(change: dict[str, object]) -> None:
    problems = contract_problems(frame(change, {}))
    assert {p.column for p in problems} <= set(change)
    assert all(p.reason for p in problems)


def test_times() -> None:
    assert parse_time(" ") is None
    assert parse_time("2026-03-01T10:00:00+01:00") == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert parse_time("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)


def test_unknown_labels_come_with_a_hint() -> None:
    labels = ["refund_status", "order_status"]
    rows = frame({}, {"output": "refund status"}, {"output": "zzz"}, {"output": ""})
    first, second = unknown_labels(rows, labels)
    assert (first.row, first.record_id, first.column) == (2, "r2", "output")
    assert "did you mean 'refund_status'?" in first.reason
    assert "add it to the taxonomy or relabel it" in second.reason
