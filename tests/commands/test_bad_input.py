"""Bad input gets one sentence with file, row and remedy; never a traceback."""

from pathlib import Path

import pytest

from tests.commands.helpers import Done, Place, jsonl, labelled


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    (tmp_path / "good.jsonl").write_text(jsonl(labelled(600)))
    golden = [{**row, "text": f"golden {row['text']}"} for row in labelled(220)]
    (tmp_path / "golden.jsonl").write_text(jsonl(golden))
    return made


def new(place: Place, labels: Path, *more: str) -> Done:
    golden = labels.parent / "golden.jsonl"
    return place.ftdm("new", "demo", "--labels", str(labels), "--golden", str(golden), *more)


def told(done: Done, code: int, *parts: str) -> None:
    text = done.err + done.out
    assert done.code == code, text
    assert "Traceback" not in text
    for part in parts:
        assert part in text
    assert len([line for line in done.err.splitlines() if line.startswith("error:")]) >= 1


def test_a_missing_column_names_those_that_are_there(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("text,colour\nhello,red\n")
    told(new(place, file), 2, "labels.csv", "text, colour", "--output-column")


def test_broken_json_names_the_line(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    lines = jsonl(labelled(20)).splitlines()
    lines[6] = '{"text": "no end'
    file.write_text("\n".join(lines) + "\n")
    told(new(place, file), 2, "labels.jsonl", "line 7")


def test_invalid_utf_8_names_the_line(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    good = jsonl(labelled(3)).encode()
    file.write_bytes(good + b'{"text": "caf\xe9", "label": "a"}\n')
    told(new(place, file), 2, "labels.jsonl", "UTF-8", "4")


def test_an_empty_file_says_so(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text("")
    told(new(place, file), 2, "labels.jsonl", "empty")


def test_a_file_that_broke_later_stops_the_run(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "good.jsonl"
    assert new(place, file).code == 0
    file.write_text(file.read_text() + "{broken\n")
    told(place.ftdm("run", "demo"), 2, "good.jsonl", "line 601")


def test_a_file_that_is_gone_names_the_setting(place: Place, tmp_path: Path) -> None:
    assert new(place, tmp_path / "good.jsonl").code == 0
    (tmp_path / "good.jsonl").unlink()
    told(place.ftdm("run", "demo"), 2, "attributes.labels.path", "there is no file")


def test_an_unknown_label_fails_a_check(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "good.jsonl"
    assert new(place, file).code == 0
    rows = labelled(600)
    rows[41]["label"] = "colour"
    file.write_text(jsonl(rows))
    done = place.ftdm("run", "demo", "--select", "raw_labels,golden_set")
    told(done, 1, "raw_labels.labels_in_taxonomy", "good.jsonl", "42", "'colour'", "taxonomy")


def test_400_rows_fail_a_check(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text(jsonl(labelled(400)))
    assert new(place, file).code == 0
    done = place.ftdm("run", "demo", "--select", "raw_labels,golden_set")
    told(done, 1, "raw_labels.enough_examples", "few.jsonl has 400", "500 are needed", "label more")


def test_wrong_yaml_names_the_key(place: Place, tmp_path: Path) -> None:
    assert new(place, tmp_path / "good.jsonl").code == 0
    defs = place.models / "demo" / "defs.yaml"
    defs.write_text(defs.read_text().replace("target_accuracy: 0.85", "target_accuracy: high"))
    told(place.ftdm("run", "demo"), 2, "attributes.gates.target_accuracy", "example")


def test_an_unknown_model_names_those_that_are_there(place: Place) -> None:
    told(place.ftdm("run", "nothing"), 2, "support_tickets", "ftdm new")


def test_an_unknown_asset_names_those_that_are_there(place: Place) -> None:
    told(place.ftdm("run", "support_tickets", "--select", "model"), 2, "adapter")


def test_a_name_that_is_taken_is_refused(place: Place, tmp_path: Path) -> None:
    assert new(place, tmp_path / "good.jsonl").code == 0
    told(new(place, tmp_path / "good.jsonl"), 2, "exists")


def test_a_rollback_without_production_says_so(place: Place) -> None:
    told(place.ftdm("rollback"), 1, "nothing is in production")


def test_a_trace_of_an_unknown_version_says_so(place: Place) -> None:
    told(place.ftdm("trace", "support_tickets-v0009"), 1, "known versions of support_tickets: none")


def test_an_unknown_option_is_a_usage_error(place: Place) -> None:
    done = place.ftdm("status", "--loud")
    assert done.code == 2
    assert "Traceback" not in done.err
