"""``ftdm review`` and ``ftdm verify`` on the real labels and dataset stages of a small model."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftdm_assets.commands.review import Wanted, review
from ftdm_assets.commands.verify import verify
from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.execute import Work, execute
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.model_folder import load_model
from ftdm_assets.records.review import ReviewError
from ftdm_assets.settings import SettingsError
from tests.commands.helpers import jsonl, labelled

DATA = frozenset({"raw_labels", "golden_set", "cleaned_dataset"})
DEFS = """\
type: ftdm_assets.DomainModel
attributes:
  name: demo
  task: {instruction: Sort., taxonomy: [a, b]}
  labels: {path: labels.jsonl, minimum: 100, recommended: 100}
  golden: {path: golden.jsonl, minimum: 10, verified_by: jane}
  gates: {suspected_label_errors: 1}
  cleaning: {label_errors: keep}
  sign_off: {sample: 8, required: true}
"""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphPlan:
    folder = tmp_path / "models" / "demo"
    folder.mkdir(parents=True)
    rows = [{**row, "text": f"{row['text']} {uuid.uuid5(uuid.NAMESPACE_URL, row['text'])}"}
            for row in labelled(140)]  # fmt: skip
    (folder / "labels.jsonl").write_text(jsonl(rows[:120]))
    (folder / "golden.jsonl").write_text(jsonl(rows[120:]))
    (folder / "defs.yaml").write_text(DEFS)
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTDM_MODELS", str(tmp_path / "models"))
    return build_plan(load_model("demo"))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run(graph: GraphPlan, instance: dg.DagsterInstance, assets: frozenset[str]) -> str:
    return execute(graph, instance, Work(assets, frozenset()), str(uuid.uuid4()))


def wanted(**changes: Any) -> Wanted:
    given = {"by": None, "export": None, "filled_in": None, "accept_all": False, "refuse": False}
    return Wanted("demo", **{**given, "reason": "", **changes})


def test_a_sample_goes_out_comes_back_and_everything_verifies(
    graph: GraphPlan, instance: dg.DagsterInstance, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run(graph, instance, DATA)
    reading = reading_of(graph)
    facts = reading.manifest("cleaned_dataset").facts
    assert facts["sign_off_sample"] == 8
    # Out as a file, filled in, back.
    file = tmp_path / "sample.jsonl"
    assert review(wanted(export=file), as_json=False) == 0
    assert file.stat().st_mode & 0o077 == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 8
    with pytest.raises(ReviewError, match="there already"):
        review(wanted(export=file), as_json=False)
    rows[0] |= {"answer": "wrong_label", "right_label": "a" if rows[0]["output"] == "b" else "b"}
    for row in rows[1:]:
        row["answer"] = "accept"
    file.write_text(jsonl(rows))
    assert review(wanted(filled_in=file, by="jane"), as_json=False) == 1
    assert "jane refused" in capsys.readouterr().out
    # In the terminal, where one answer is mistyped.
    typed = iter(["w", "nonsense", "x", *["a"] * 8, "y"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setenv("FTDM_ACTOR", "joe")
    assert review(wanted(), as_json=True) == 0
    told = capsys.readouterr()
    assert "'nonsense' is no label" in told.err
    statement = json.loads(told.out[told.out.index("{\n") :])
    assert statement["predicate"]["by"] == "joe"
    assert statement["predicate"]["seed"] == facts["sign_off_seed"]
    assert statement["subject"][0]["digest"]["sha256"] == reading.digest("cleaned_dataset")
    # Everything verifies; the head that is printed can be kept and given back.
    assert verify("demo", False, None, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sign_offs"] == 2
    head = document["access_log"]["head"]
    assert verify(None, True, head, as_json=False) == 0
    assert head in capsys.readouterr().out
    # A label turned in the store is found, and so is a head that the log never had.
    path = reading.store.root / "artifacts/dataset" / reading.digest("cleaned_dataset")
    records = path / "records.jsonl"
    records.write_text(records.read_text().replace('"output": "a"', '"output": "b"', 1))
    assert verify("demo", False, f"1:{'0' * 64}", as_json=False) == 1
    told = capsys.readouterr()
    assert f"{path} was changed" in told.err
    assert "the head given by --head names entry 1" in told.err


def test_a_restricted_record_stops_this_run_and_the_next(
    graph: GraphPlan, instance: dg.DagsterInstance
) -> None:
    labels = graph.model.folder / "labels.jsonl"
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    rows[6]["data_class"] = "restricted"
    labels.write_text(jsonl([{"data_class": "internal", **row} for row in rows]))
    run(graph, instance, DATA)
    made = {path.name for path in (reading_of(graph).store.root / "heads/demo").iterdir()}
    assert made == {"raw_labels", "golden_set"}
    told = run(graph, instance, frozenset({"cleaned_dataset"}))
    assert "cleaned_dataset is refused: raw_labels.data_class_allowed failed" in told
    for part in ("labels.jsonl", "row 7 (labels-000007)", "allowed_data_class"):
        assert part in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"accept_all": True, "by": "jane"}, "give --by NAME and --reason TEXT"),
        ({"accept_all": True, "reason": "urgent"}, "give --by NAME and --reason TEXT"),
        ({"filled_in": Path("x.jsonl")}, "give --by NAME"),
        ({"filled_in": Path("x.jsonl"), "export": Path("y.jsonl")}, "choose one"),
        ({"refuse": True}, "--refuse needs --reason"),
        ({}, "there is no terminal to ask at"),
    ],
)
def test_nobody_signs_by_accident(
    changes: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(ReviewError, match=told):
        review(wanted(**changes), as_json=False)


def test_a_head_that_is_none_is_a_usage_error(graph: GraphPlan) -> None:
    with pytest.raises(SettingsError, match="write it as COUNT:DIGEST"):
        verify(None, True, "12", as_json=False)
