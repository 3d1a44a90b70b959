"""Golden files: every kind reads the same; every defect is named with file, row and remedy."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.examples import (
    Example,
    GoldenError,
    content_id,
    read_examples,
    read_golden_file,
)

ROWS = [
    {"id": "g1", "text": "Where is my parcel?", "label": "order_status", "verified_by": "ana"},
    {"id": "g2", "text": "Cancel, please.", "label": "plan_cancel", "verified_by": "ben"},
]
EXAMPLES = [
    Example("g1", "Where is my parcel?", "order_status", "ana"),
    Example("g2", "Cancel, please.", "plan_cancel", "ben"),
]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_kind_of_file_reads_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"golden{suffix}"
    frame = pd.DataFrame(ROWS)
    if suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    assert read_examples(path) == EXAMPLES


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "g.jsonl", [{"Mail": "hi", "Team": "x", "text": "no"}])
    [example] = read_examples(path, input_column="mail", output_column="team")
    assert (example.input, example.output) == ("hi", "x")


def test_a_row_that_says_the_same_once_more_counts_once_and_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": "a", "label": "x"}, {"text": "b", "label": "x"}, {"text": " a ", "label": "x"},
    ]  # fmt: skip
    read = read_golden_file(write_jsonl(tmp_path / "g.jsonl", rows))
    assert [example.input for example in read.examples] == ["a", "b"]
    assert read.repeats == {3: 1}


def test_an_id_comes_from_the_content_not_from_the_row(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}]
    forward = read_examples(write_jsonl(tmp_path / "a.jsonl", rows))
    backward = read_examples(write_jsonl(tmp_path / "b.jsonl", rows[::-1]))
    assert {e.input: e.example_id for e in forward} == {e.input: e.example_id for e in backward}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no rows"),
        (b'{"text": "a", "label": "x"}\n{broken\n', "line 2: not valid JSON"),
        (b'{"text": "a", "label": "x"}\n["list"]\n', "line 2: a list, not a JSON object"),
        (b'{"text": "a", "label": "x"}\n{"text": "\xff", "label": "x"}\n', "line 2: byte"),
        (b'{"text": "a", "label": "x"}\n{"text": "b"}\n', "row 2: none of the columns output"),
        (b'{"text": "a", "label": " "}\n', "row 1: output must be a text"),
        (b'{"text": 5, "label": "x"}\n', "row 1: input must be a text"),
        (b'{"text": NaN, "label": "x"}\n', "line 1: not valid JSON"),
        (b'{"text": "a", "text": "b", "label": "x"}\n', "line 1: .*'text' occurs twice"),
        (b'{"text": "\\ud800", "label": "x"}\n', "line 1: not valid JSON"),
        (b'{"text": "a", "label": "x"}\n{"text": " a", "label": "y"}\n', "row 2: the input of row"),
        (
            b'{"id": 1, "text": "a", "label": "x"}\n{"id": 1, "text": "b", "label": "y"}\n',
            "row 2: the id of row 1 again",
        ),
    ],
)
def test_a_defect_is_named_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_bytes(content)
    with pytest.raises(GoldenError, match=message) as caught:
        read_examples(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.csv", "text,label\na,b,c\n", "row 1 .line 2.: 3 cells for 2 columns"),
        ("g.csv", "text,text\na,b\n", "occurs twice"),
        ("g.csv", 'text,label\n"a,b\n', "not valid CSV"),
        ("g.parquet", "no parquet", "not a readable Parquet file"),
        ("g.xlsx", "", "unknown kind of file"),
    ],
)
def test_other_kinds_name_their_defects(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(GoldenError, match=message):
        read_examples(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match=r"none\.jsonl: no such file"):
        read_examples(tmp_path / "none.jsonl")


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "golden.jsonl"
    path.write_bytes(content)
    try:
        outcome = str(len(read_examples(path)))
    except GoldenError as error:
        outcome = str(error)
    assert outcome.isdigit() or str(path) in outcome


@given(st.text())
def test_ids_are_stable(text: str) -> None:
    encodable = text.encode("utf-8", "replace").decode()
    assert content_id(encodable) == content_id(encodable)
    assert len(content_id(encodable)) == len("golden-") + 12
