"""The contract of the raw frame: one row an annotation, in these columns and no less.

Invariants:
* Every breach is named with its row and column; the first one does not hide the others.
* An empty or over-long input is no breach: cleaning drops it, with the reason in the ledger.
* ``actor`` is who last touched the annotation, ``annotator`` whom it is credited to; ``role`` says
  whether it is a label or the answer to a review.
* A blank ``annotated_at`` says that the time is not known; anything else must be ISO 8601.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pandas as pd
import pandera.pandas as pa

from ftdm_assets.records.data_classes import DATA_CLASSES

RAW_COLUMNS = (
    "record_id",
    "input",
    "output",
    "annotator",
    "annotated_at",
    "source",
    "data_class",
    "actor",
    "role",
    "row",
)
LABEL, REVIEW = "label", "review"
ROLES = (LABEL, REVIEW)


@dataclass(frozen=True)
class Problem:
    """One breach of the contract; row 0 means the whole frame."""

    row: int
    record_id: str
    column: str
    reason: str


def parse_time(text: str) -> datetime | None:
    """Return an ISO 8601 time in UTC (without a zone it is taken as UTC); None for a blank one.

    Raises:
        ValueError: if it is neither.
    """
    if not text.strip():
        return None
    moment = datetime.fromisoformat(text.strip())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@lru_cache(maxsize=100_000)
def _is_time(text: str) -> bool:
    try:
        parse_time(text)
    except (ValueError, OverflowError):
        return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _check(test: Callable[[Any], bool], reason: str) -> pa.Check:
    # A column at a time: pandera's own element-wise way costs three times as much.
    def whole(column: Any) -> Any:
        return pd.Series([test(value) for value in column], index=column.index, dtype=bool)

    return pa.Check(whole, error=reason)


def raw_schema() -> pa.DataFrameSchema:
    """Return the pandera schema of the raw frame."""
    filled = "is blank; fill it in at the source"
    classes = ", ".join(DATA_CLASSES)
    return pa.DataFrameSchema(
        {
            "record_id": pa.Column(object, [_check(_is_filled, filled)]),
            "input": pa.Column(object, [_check(_is_text, "is not a text; write it as a string")]),
            "output": pa.Column(object, [_check(_is_filled, "is missing; label the record")]),
            "annotator": pa.Column(object, [_check(_is_filled, filled)]),
            "annotated_at": pa.Column(
                object,
                [
                    _check(
                        lambda value: _is_text(value) and _is_time(value),
                        "is no ISO 8601 time; write it like 2026-03-01T09:30:00+00:00",
                    )
                ],
            ),
            "source": pa.Column(object, [_check(_is_filled, filled)]),
            "data_class": pa.Column(
                object,
                [_check(lambda value: value in DATA_CLASSES, f"is none of {classes}; choose one")],
            ),
            "actor": pa.Column(object, [_check(_is_filled, filled)]),
            "role": pa.Column(
                object,
                [_check(lambda value: value in ROLES, f"is none of {', '.join(ROLES)}")],
            ),
            "row": pa.Column(int, [_check(lambda value: value >= 1, "is below 1; count from 1")]),
        },
        name="raw_labels",
    )


def contract_problems(frame: pd.DataFrame) -> list[Problem]:
    """Return every breach of the contract, in row order; an empty list means none."""
    missing = [column for column in RAW_COLUMNS if column not in frame.columns]
    if missing:
        reason = f"the column is missing; the frame has {', '.join(map(str, frame.columns))}"
        return [Problem(0, "", column, reason) for column in missing]
    if frame.empty:
        return [Problem(0, "", "row", "there are no records; add labelled records to the source")]
    if not pd.api.types.is_integer_dtype(frame["row"]):
        return [Problem(0, "", "row", "the column holds no whole numbers; count rows from 1")]
    frame = frame.reset_index(drop=True)
    problems = [*_schema_problems(frame), *_duplicate_ids(frame)]
    order = {column: place for place, column in enumerate(RAW_COLUMNS)}
    return sorted(set(problems), key=lambda p: (p.row, order[p.column], p.reason))


def _schema_problems(frame: pd.DataFrame) -> list[Problem]:
    types: dict[str, Any] = {**dict.fromkeys(RAW_COLUMNS[:-1], object), "row": "int64"}
    try:
        raw_schema().validate(frame.astype(types), lazy=True)
    except pa.errors.SchemaErrors as error:
        return [_problem(frame, case) for case in error.failure_cases.to_dict("records")]
    return []


def _problem(frame: pd.DataFrame, case: dict[Any, Any]) -> Problem:
    column = str(case["column"])
    if pd.isna(case["index"]):
        return Problem(0, "", column, f"the column breaks the contract: {case['check']}")
    row = frame.iloc[int(case["index"])]
    shown = "" if case["failure_case"] in ("", None) else f"{str(case['failure_case'])[:60]!r} "
    reason = str(case["check"]).replace("not_nullable", "is missing; fill it in at the source")
    return Problem(int(row["row"]), str(row["record_id"]), column, shown + reason)


def _duplicate_ids(frame: pd.DataFrame) -> Iterable[Problem]:
    if frame["record_id"].is_unique:
        return
    first: dict[str, int] = {}
    for record_id, number in zip(frame["record_id"], frame["row"], strict=True):
        if record_id in first:
            reason = f"was given to row {first[record_id]} already; every annotation needs its own"
            yield Problem(int(number), str(record_id), "record_id", reason)
        else:
            first[record_id] = int(number)


def unknown_labels(frame: pd.DataFrame, labels: Sequence[str]) -> list[Problem]:
    """Return a problem for each record whose output is no label; blank outputs are not repeated."""
    known = set(labels)
    problems = []
    columns = (frame["row"], frame["record_id"], frame["output"])
    for number, record_id, output in zip(*columns, strict=True):
        label = str(output).strip()
        if not label or label in known:
            continue
        near = difflib.get_close_matches(label, labels, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "add it to the taxonomy or relabel it"
        reason = f"the label {label[:60]!r} is not in the taxonomy; {hint}"
        problems.append(Problem(int(number), str(record_id), "output", reason))
    return problems
