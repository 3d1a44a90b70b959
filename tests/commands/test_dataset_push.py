"""``ftdm dataset push`` with the real Hub client, against a Hub that really stores."""

import io
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow
import pytest
from huggingface_hub import DatasetCard, close_session
from pyarrow import parquet

from ftdm_assets.commands import trace
from ftdm_assets.commands.dataset import push
from ftdm_assets.commands.errors import exit_code
from ftdm_assets.commands.verify import verify
from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.evidence import RefusedError
from ftdm_assets.graph.execute import Work, execute
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.hub import HubError, HubUnreachableError
from ftdm_assets.model_folder import load_model
from ftdm_assets.provenance.files import read_jsonl
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.registries.hub_dataset import DATA_FILE
from ftdm_assets.registries.hub_repo import HubMismatchError
from ftdm_assets.settings import SettingsError
from tests.commands.helpers import Place, jsonl, labelled
from tests.hub.client import point_to
from tests.hub.server import TOKEN, FaultyHub, Request, failing, hub, on

DATA = frozenset({"raw_labels", "golden_set", "cleaned_dataset"})
DEFS = """\
type: ftdm_assets.DomainModel
attributes:
  name: demo
  task: {instruction: Sort., taxonomy: {a: the first | kind, b: the second}}
  labels: {path: labels.jsonl, minimum: 50, recommended: 100}
  golden: {path: golden.jsonl, minimum: 10, verified_by: jane}
  gates: {suspected_label_errors: 1}
  cleaning: {label_errors: keep, allowed_data_class: confidential}
"""
TO = "org/tickets"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home in which the cleaned dataset was made, with one confidential record."""
    made = Place(tmp_path_factory.mktemp("push"))
    folder = made.models / "demo"
    folder.mkdir()
    rows = [{**row, "text": f"{row['text']} {uuid.uuid5(uuid.NAMESPACE_URL, row['text'])}"}
            for row in labelled(80)]  # fmt: skip
    rows[0] |= {"data_class": "confidential"}
    (folder / "labels.jsonl").write_text(jsonl([*rows[:60], rows[7]]))
    (folder / "golden.jsonl").write_text(jsonl(rows[60:]))
    (folder / "defs.yaml").write_text(DEFS)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name in ("FTDM_HOME", "FTDM_MODELS"):
            patch.setenv(name, made.environment[name])
        graph = build_plan(load_model("demo"))
        execute(graph, instance, Work(DATA, frozenset()), str(uuid.uuid4()))
        yield made


@pytest.fixture
def there(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    with hub(tmp_path / "hub") as made:
        point_to(monkeypatch, made, tmp_path / "cache")
        yield made


def pushed(capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert push("demo", TO, "confidential", as_json=True) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_itself_in_a_process_of_its_own(place: Place, tmp_path: Path) -> None:
    with hub(tmp_path / "hub") as made:
        own = {"HF_ENDPOINT": made.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
        place.environment |= {**own, "HF_HOME": str(tmp_path / "hf")}
        named = ("dataset", "push", "demo", "--to", TO, "--allowed-data-class", "confidential")
        done = place.ftdm(*named, "--json")
        assert done.code == 0, done.err
        assert done.document["commit"] == made.repos["datasets", TO].branches["main"]
        assert TOKEN not in done.out + done.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(RefusedError, 1), (HubMismatchError, 1), (HubError, 2), (HubUnreachableError, 3)],
)
def test_how_it_ends(error: type[Exception], code: int) -> None:
    assert exit_code(error("why")) == (code, "why")


def content(there: FaultyHub, path: str, commit: str) -> bytes:
    return (there.folder / there.repos["datasets", TO].commits[commit][path].oid).read_bytes()


def test_a_push_is_one_tagged_private_commit_and_the_second_none(
    there: FaultyHub, place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = pushed(capsys)
    repo = there.repos["datasets", TO]
    assert repo.private
    assert len(repo.log) == 2
    assert repo.tags == {f"sha256-{first['digest']}": first["commit"]}
    assert first["made"]
    assert first["url"] == f"{there.url}/datasets/{TO}/tree/{first['commit']}"
    # The second push looks, verifies and changes nothing.
    again = pushed(capsys)
    assert again == {**first, "made": False}
    assert len(repo.log) == 2
    assert there.count("POST /api/datasets/org/tickets/commit") == 1
    # What was pushed where stands in the store, who read it for that in the access record.
    reading = reading_of(build_plan(load_model("demo")))
    made = reading.store.publications("demo", "cleaned_dataset", first["digest"])
    assert [(one.repository, one.commit) for one in made if one.hub == there.url] == [
        (TO, first["commit"])
    ]
    entries = read_jsonl(reading.store.access_log.chain.path)
    reads = [one["content"] for one in entries if one["content"]["kind"] == "dataset"]
    assert reads[-1]["why"] == f"ftdm dataset push demo to {TO}"
    assert reads[-1]["digest"] == first["digest"]
    _, manifest = reading.head("cleaned_dataset")
    shown = trace._node(reading.store, Node(manifest.manifest_digest(), manifest, 0))
    assert first["commit"] in {one["commit"] for one in shown["publications"]}
    assert verify("demo", False, None, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["publications"] >= 1


def test_the_card_says_what_is_in_it_and_its_lines_verify_it(
    there: FaultyHub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = pushed(capsys)
    card = content(there, "README.md", made["commit"]).decode()
    front = DatasetCard(card).data
    told = front["ftdm"]
    assert told["digest"] == made["digest"]
    assert told["records"] == 60
    assert told["raw_records"] == 61
    assert told["labels"] == {"a": 30, "b": 30}
    assert told["data_classes"] == {"confidential": 1, "internal": 59}
    assert front["configs"][0]["data_files"][0]["path"] == DATA_FILE
    for line in (
        "| a | 30 | the first \\| kind |",
        "| exact_duplicate | 1 |",
        "agreement was not measured",
        "No person has signed this dataset off.",
        "| signed_off | failed (warn) |",
        "| no_duplicates | passed |",
        "confidential: mask",
        "Annotators of the raw labels: 1",
    ):
        assert line in card, line
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    (tmp_path / "data").mkdir()
    (tmp_path / DATA_FILE).write_bytes(content(there, DATA_FILE, made["commit"]))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == made["digest"]


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("PUT /lfs/", HubUnreachableError, r"the connection to the Hub failed"),
        ("POST /api/datasets/org/tickets/commit", HubUnreachableError, "failed .*, 3 times"),
        ("GET /datasets/org/tickets/resolve", HubUnreachableError, "failed"),
        ("POST /api/datasets/org/tickets/tag", HubUnreachableError, "failed .*, 3 times"),
    ],
)
def test_a_connection_that_is_cut_and_a_second_push_that_goes_on(
    there: FaultyHub, capsys: pytest.CaptureFixture[str], where: str, error: Any, message: str
) -> None:
    there.fault = on(where, Request.cut)
    with pytest.raises(error, match=message) as raised:
        push("demo", TO, "confidential", as_json=False)
    assert TOKEN not in str(raised.value)
    assert "\n" not in str(raised.value)
    repo = there.repos["datasets", TO]
    assert not repo.tags
    assert "pushed" not in capsys.readouterr().out
    commits = len(repo.log)
    there.fault = lambda _: False
    made = pushed(capsys)
    assert made["made"]
    assert repo.tags == {made["tag"]: made["commit"]}
    # A commit that had landed is used.
    assert len(repo.log) == 2
    assert commits in {1, 2}


@pytest.mark.parametrize(
    "where",
    ["GET /api/whoami", "POST /api/repos/create", "PUT /lfs/", "POST /api/datasets/.*/commit",
     "HEAD /datasets/.*/resolve", "GET /datasets/.*/resolve", "POST /api/datasets/.*/tag"],
)  # fmt: skip
def test_a_failure_that_passes_leaves_no_trace(
    there: FaultyHub, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    there.fault = on(where, failing(), times=1)
    made = pushed(capsys)
    repo = there.repos["datasets", TO]
    assert len(repo.log) == 2
    assert repo.tags == {made["tag"]: made["commit"]}


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    there: FaultyHub, capsys: pytest.CaptureFixture[str]
) -> None:
    lost: list[str] = []

    def lose(request: Request) -> bool:
        if lost or "/commit/" not in request.where:
            return False
        lost.append(request.where)
        request.answer = lambda *_, **__: None  # type: ignore[method-assign]
        request.close_connection = True
        return False

    there.fault = lose
    made = pushed(capsys)
    assert lost
    assert [oid for oid, _ in there.repos["datasets", TO].log][1:] == [made["commit"]]


def test_a_byte_that_changes_on_the_hub_is_found(
    there: FaultyHub, capsys: pytest.CaptureFixture[str]
) -> None:
    made = pushed(capsys)
    file = there.folder / there.repos["datasets", TO].commits[made["commit"]][DATA_FILE].oid
    whole = file.read_bytes()
    there.repos.clear()
    for place in (len(whole) // 3, len(whole) // 2, len(whole) - 1):

        def spoil(request: Request, place: int = place) -> bool:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            return False

        there.fault = on("HEAD /datasets/org/tickets/resolve", spoil)
        with pytest.raises(HubMismatchError, match=f"gives {DATA_FILE} back changed, so it does"):
            push("demo", TO, "confidential", as_json=False)
        assert not there.repos["datasets", TO].tags
    file.write_bytes(whole)
    there.fault = lambda _: False
    assert pushed(capsys)["made"]
    # What was pushed long ago is judged by the records in it.
    rows = parquet.read_table(io.BytesIO(whole)).to_pylist()
    rows[0]["output"] = "b" if rows[0]["output"] == "a" else "a"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    with pytest.raises(HubMismatchError, match=f"gives back [0-9a-f]{{64}} for {made['digest']}"):
        push("demo", TO, "confidential", as_json=False)
    file.write_bytes(b"PAR1")
    with pytest.raises(HubMismatchError, match="gives back what cannot be read"):
        push("demo", TO, "confidential", as_json=False)


def test_what_must_not_leave_stays(
    there: FaultyHub, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    with pytest.raises(RefusedError, match=r"above internal \(1 confidential\), nothing was sent"):
        push("demo", TO, "internal", as_json=False)
    with pytest.raises(SettingsError, match="--allowed-data-class: expected one of public"):
        push("demo", TO, "secret", as_json=False)
    assert not there.asked
    repo = there.create("datasets", TO, private=False)
    with pytest.raises(HubError, match=r"org/tickets \(dataset repository\) is public, nothing"):
        push("demo", TO, "confidential", as_json=False)
    assert len(repo.log) == 1
    with pytest.raises(HubError, match=r"'tickets' is no repository; expected ORG/NAME"):
        push("demo", "tickets", "confidential", as_json=False)
    # A check that has failed, or was not judged by the level in force, stops it before any request.
    asked = len(there.asked)
    defs = place.models / "demo" / "defs.yaml"
    defs.write_text(DEFS.replace("minimum: 50", "minimum: 500"))
    try:
        with pytest.raises(RefusedError, match=r"pushing cleaned_dataset of demo is refused: raw_"):
            push("demo", TO, "confidential", as_json=False)
    finally:
        defs.write_text(DEFS)
    assert len(there.asked) == asked


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m, h: m.setenv("HF_TOKEN", "hf_wrong"), HubError, "token is not accepted"),
        (lambda m, h: m.delenv("HF_TOKEN"), HubError, "there is no access token; set HF_TOKEN"),
        (lambda m, h: setattr(h, "fault", failing()), HubUnreachableError, "answers 500, 3 times"),
        (lambda m, h: setattr(h, "fault", failing(403)), HubError, "needs the right to write"),
        (
            lambda m, h: m.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9"),
            HubUnreachableError,
            r"org/tickets \(dataset repository\): the connection to the Hub failed \(Conn",
        ),
    ],
)
def test_a_hub_that_refuses_or_fails_is_one_sentence(
    there: FaultyHub, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Any], None],
    error: type[HubError], message: str,
) -> None:  # fmt: skip
    change(monkeypatch, there)
    with pytest.raises(error, match=message) as raised:
        push("demo", TO, "confidential", as_json=False)
    assert type(raised.value) is error
    assert "hf_" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not there.repos


def test_a_hub_that_does_not_answer_is_not_waited_for(
    there: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftdm_assets.hub._TIMEOUT_S", 0.2)
    close_session()

    def silent(_: Request) -> bool:
        time.sleep(0.5)
        return True

    there.fault = silent
    with pytest.raises(HubUnreachableError, match=r"failed \(ReadTimeout\), 3 times"):
        push("demo", TO, "confidential", as_json=False)
    close_session()
