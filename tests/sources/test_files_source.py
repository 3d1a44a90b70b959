"""Label files: every kind reads the same, nothing is skipped, every defect is named."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ftdm_assets.sources.files import (
    ColumnNames,
    RecordDefaults,
    SourceError,
    find_columns,
    read_records,
)

COLUMNS = [
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
]
BANKING = Path(__file__).resolve().parents[3] / "shared/data/banking77/train.csv"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_kind_of_file_reads_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    frame = pd.DataFrame(
        {
            "id": ["r1", "r2"],
            "text": ["Grüße, where is it?", 'He said "now",\nplease'],
            "label": ["order_status", ""],
            "annotator": ["ana", "ben"],
            "annotated_at": ["2026-03-01T09:00:00+00:00"] * 2,
            "data_class": ["public", "internal"],
        }
    )
    if suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    records = read_records(path, defaults=RecordDefaults(source="desk"))
    assert list(records.columns) == COLUMNS
    assert records.to_dict("records") == [
        {
            "record_id": row["id"],
            "input": row["text"],
            "output": row["label"],
            "annotator": row["annotator"],
            "annotated_at": row["annotated_at"],
            "source": "desk",
            "data_class": row["data_class"],
            "actor": row["annotator"],
            "role": "label",
            "row": number,
        }
        for number, row in enumerate(frame.to_dict("records"), start=1)
    ]


def test_what_a_file_does_not_say_gets_a_default(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.jsonl", '{"Text": "a", "Category": "x"}\n\n{"Text": "b"}\n')
    records = read_records(path)
    assert list(records["record_id"]) == ["mail-000001", "mail-000003"]
    assert list(records["row"]) == [1, 3]
    assert list(records["output"]) == ["x", ""]
    assert set(records["annotator"]) == {"unknown"}
    assert set(records["annotated_at"]) == {""}
    assert set(records["source"]) == {"mail.jsonl"}
    assert set(records["data_class"]) == {"internal"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("text,category", ("text", "category", None)),
        ("Utterance, Intent ,ID", ("Utterance", " Intent ", "ID")),
        ("label,body,subject,ticket", ("ticket", "label", None)),
        ("instruction,response", ("instruction", "response", None)),
    ],
)
def test_columns_are_found(
    tmp_path: Path, header: str, expected: tuple[str, str, str | None]
) -> None:
    path = write(tmp_path / "a.csv", header + "\n" + ",".join("v" * len(header.split(","))))
    found = find_columns(path)
    assert (found.input, found.output, found.record_id) == expected


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,Mail,label,Queue\n1,2,3,4\n")
    columns = find_columns(path, input_column="mail", output_column="queue")
    assert columns == ColumnNames("Mail", "Queue")
    [record] = read_records(path, columns).to_dict("records")
    assert (record["input"], record["output"]) == ("2", "4")


def test_structured_outputs_become_compact_json(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "two Wisps", "output": {"n": 2, "item": "Wisp"}}')
    assert read_records(path)["output"][0] == '{"item":"Wisp","n":2}'


def test_numbers_and_times_become_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    moment = datetime(2026, 3, 1, 9, tzinfo=UTC)
    table = pa.table({"id": [7], "text": ["a"], "label": [3], "created_at": [moment]})
    parquet.write_table(table, path)
    [record] = read_records(path).to_dict("records")
    assert (record["record_id"], record["output"]) == ("7", "3")
    assert record["annotated_at"] == "2026-03-01T09:00:00+00:00"


GOOD = '{"id": "1", "text": "a", "label": "x"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "holds no rows"),
        ("a.jsonl", "\n \n", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "text,label\n", "holds no rows"),
        ("a.jsonl", GOOD * 6 + '{"text": "broken\n', r"line 7: not valid JSON .*column 10"),
        ("a.jsonl", GOOD + "[1]\n", "line 2: a list, not a JSON object"),
        ("a.jsonl", '{"text": "a", "text": "b"}', "line 1: .*'text' occurs twice"),
        ("a.jsonl", '{"text": "a", "label": Infinity}', "line 1: .*Infinity is not JSON"),
        ("a.jsonl", '{"text": "\\udc00", "label": "x"}', "line 1: .*lone surrogate"),
        ("a.jsonl", "[" * 100_000, "line 1: .*nested too deeply"),
        ("a.jsonl", GOOD + '{"label": "x"}', "line 2: no field 'text'"),
        ("a.jsonl", '{"text": 5, "label": "x"}', "line 1: 'text' is a number.*--input-column"),
        ("a.jsonl", '{"text": "a", "label": 0.5}', "line 1: 'label' is a number, not a text"),
        ("a.jsonl", '{"text": "a", "label": true}', "line 1: 'label' is true or false"),
        ("a.jsonl", GOOD * 2, "line 2: record_id '1' was given to 1 already"),
        ("a.jsonl", '{"text": "a"}', "no column that looks like the output; it has text.*--output"),
        ("a.csv", "mail,label\na,b\n", "looks like the input; it has mail, label.*--input-column"),
        ("a.csv", "text,text\na,b\n", "the column 'text' occurs twice"),
        ("a.csv", "text,label\na,b\nc\n", r"row 2 .line 3.: 1 cells for 2 columns; put quotes"),
        ("a.csv", 'text,label\n"a,b\n', "line 2: not valid CSV"),
        ("a.csv", 'text,label\n"a"b,c\n', "line 2: not valid CSV"),
        ("a.parquet", "PAR1 not really", "not a readable Parquet file"),
        ("a.xlsx", "", "unknown kind of file; use .jsonl, .csv or .parquet"),
        ("a", "", "unknown kind of file"),
        ("a.jsonl", b"\xef\xbb\xbf" + GOOD.encode() + b'{"text": "\xe9"}', "line 2: byte 0xe9"),
        ("a.csv", b"text,label\na,\xff\n", "line 2: byte 0xff at position 13 is not UTF-8"),
    ],
)
def test_a_defect_is_named_in_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(SourceError, match=message) as caught:
        read_records(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.csv: no such file"):
        read_records(tmp_path / "none.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(SourceError, match="not a file"):
        find_columns(folder)


def test_a_chosen_column_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,b\n")
    with pytest.raises(SourceError, match="no column 'mail'; it has text, label: choose one with"):
        find_columns(path, input_column="mail")
    with pytest.raises(SourceError, match=r"no column 'who'.*correct the annotator column"):
        read_records(path, ColumnNames("text", "label", annotator="who"))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbftext,label\na,b\n")
    assert find_columns(path).input == "text"


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([".jsonl", ".csv", ".parquet"]))
def test_no_bytes_break_the_reader_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = write(tmp_path_factory.mktemp("fuzz") / f"labels{suffix}", content)
    try:
        outcome = str(len(read_records(path)))
    except SourceError as error:
        outcome = str(error)
    assert outcome.isdigit() or str(path) in outcome


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20))
def test_any_text_survives_json_lines_and_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    with (folder / "a.jsonl").open("w", encoding="utf-8") as stream:
        for text, label in rows:
            stream.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
    for name in ("a.jsonl", "a.csv"):
        records = read_records(folder / name)
        assert list(zip(records["input"], records["output"], strict=True)) == rows
        assert list(records["row"]) == list(range(1, len(rows) + 1))


@pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not beside the repository")
def test_banking77_is_read_whole() -> None:
    records = read_records(BANKING)
    assert len(records) == 10_003
    assert records["record_id"].is_unique
    assert records["output"].nunique() == 77
