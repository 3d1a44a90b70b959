"""A real Label Studio server: two people label, the graph reads, a review decides."""

import hashlib
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.execute import Work, execute
from ftdm_assets.graph.plan import GraphPlan, Reading
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.graph.sources import source_sensor
from ftdm_assets.model_folder import ModelFolder, load_model
from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.doubts import in_doubt
from ftdm_assets.sources.label_studio import LabelStudioSource
from ftdm_assets.sources.label_webhook import mark_of
from serving.health import free_port
from tests.commands.helpers import Place
from tests.label_studio.server import COMMAND, TOKEN, Server, running

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not COMMAND.exists(), reason="make label-studio-env"),
]
TEXTS = [f"{hashlib.sha256(str(n).encode()).hexdigest()[:24]} is odd" for n in range(60)]
SECOND = "second@example.org"


def first_says(n: int) -> str:
    return "a" if n < 30 else "b"


def second_says(n: int) -> str:
    """Disagrees on 12 of 60: six of each of the first one's labels."""
    other = {"a": "b", "b": "a"}[first_says(n)]
    return other if n % 30 < 6 else first_says(n)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("label_studio")) as started:
        yield started


def materialise(graph: GraphPlan, instance: dg.DagsterInstance) -> Reading:
    work = Work(frozenset({"raw_labels"}), frozenset())
    assert execute(graph, instance, work, str(uuid.uuid4())) == ""
    return reading_of(graph)


def frame_of(source: LabelStudioSource) -> Any:
    return source.read().frame


def kept_label(source: LabelStudioSource, text: str) -> str | None:
    records = clean(frame_of(source), {}).records
    found = records[records["input"] == text]["output"].tolist()
    return found[0] if found else None


def test_from_texts_to_a_reviewed_consensus(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, FTDM_LABEL_STUDIO_TOKEN=TOKEN, FTDM_LABEL_WEBHOOK_SECRET="not told")
    for name in ("FTDM_HOME", "FTDM_MODELS", "FTDM_LABEL_STUDIO_TOKEN"):
        monkeypatch.setenv(name, place.environment[name])
    receiver = free_port()
    model = _model(place.models, server, receiver)
    source = LabelStudioSource(model)
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))

    made = [place.ftdm("labels", "init", "demo", "--texts", str(texts), "--json") for _ in range(2)]
    assert [done.code for done in made] == [0, 0], made[0].err
    assert [(done.document["made"], done.document["sent"]) for done in made] == [
        (True, 60), (False, 0),
    ]  # fmt: skip
    assert len(server.owner.call("GET", "/api/webhooks/")) == 1

    second = server.join(SECOND)
    tasks = {task["data"]["text"]: int(task["id"]) for task in source.tasks()}
    own = {}
    for n, text in enumerate(TEXTS):
        own[n] = server.owner.label(tasks[text], first_says(n))
        second.label(tasks[text], second_says(n))

    graph = build_plan(model)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        before = materialise(graph, instance)
        facts = before.manifest("raw_labels").facts
        # Krippendorff's alpha by hand. 60 texts, two values each: 120 values, 60 "a" and 60 "b"
        # (each person: 30 of each). 12 texts disagree, each giving 2 ordered unequal pairs.
        observed = 12 * 2 / 120
        expected = (60 * 60 + 60 * 60) / (120 * 119)
        assert facts["alpha"] == pytest.approx(1 - observed / expected, abs=0.0005)
        assert facts["annotators"] == {"owner@example.org": 60, SECOND: 60}
        old = before.manifest("raw_labels")
        old_rows = {row["record_id"]: row for row in before.records("raw_labels")}
        cursor = tick(graph, instance, None, wanted=False)
        # The second person edits what the first one wrote: it stays credited to the first.
        with listening(place, receiver):
            second.edit(own[59], "a")
            until(lambda: mark_of("demo") > 0)
        # Within the half minute: the sensor asks because of the webhook.
        cursor = tick(graph, instance, cursor, wanted=True)
        after = materialise(graph, instance)
        new_rows = {row["record_id"]: row for row in after.records("raw_labels")}
        assert after.digest("raw_labels") != old.digest
        assert set(new_rows) == set(old_rows)
        [changed] = [i for i in new_rows if new_rows[i]["digest"] != old_rows[i]["digest"]]
        assert (old_rows[changed]["output"], new_rows[changed]["output"]) == ("b", "a")
        assert new_rows[changed]["annotator"] == "owner@example.org"
        assert (old_rows[changed]["actor"], new_rows[changed]["actor"]) == (
            "owner@example.org", SECOND,
        )  # fmt: skip
        again = after.store.read_records(old.kind, old.digest)
        assert {row["record_id"]: row for row in again} == old_rows

    doubtful = {TEXTS[n] for n in (*range(6), *range(30, 36), 59)}
    assert {item.input for item in in_doubt(frame_of(source), CleanSettings())} == doubtful
    assert kept_label(source, TEXTS[0]) is None
    sent = []
    for limit in ("3", "100", "100"):
        done = place.ftdm("labels", "review", "demo", "--limit", limit, "--json")
        assert (done.code, done.document["in_doubt"]) == (0, 13), done.err
        sent.append([item["input"] for item in done.document["sent"]])
    assert [len(part) for part in sent] == [3, 10, 0]
    assert {text for part in sent for text in part} == doubtful
    for task in source.tasks():
        if task["data"]["text"] == TEXTS[0] and task["meta"].get("ftdm_role") == "review":
            second.label(int(task["id"]), "b")
    assert kept_label(source, TEXTS[0]) == "b"
    result = clean(frame_of(source), {})
    reasons = result.ledger["reason"].tolist()
    assert reasons.count("superseded_by_review") == 2
    assert len(result.ledger) == 121
    left = in_doubt(frame_of(source), CleanSettings())
    assert TEXTS[0] not in {item.input for item in left}


def tick(
    graph: GraphPlan, instance: dg.DagsterInstance, cursor: str | None, *, wanted: bool
) -> str:
    """Evaluate the sensor as Dagster's daemon does; return its new cursor."""
    context = dg.build_sensor_context(instance, cursor)
    data = source_sensor(graph).evaluate_tick(context)
    selections = [request.asset_selection for request in data.run_requests or []]
    assert selections == ([[dg.AssetKey(["demo", "raw_labels"])]] if wanted else [])
    assert data.cursor
    return data.cursor


@contextmanager
def listening(place: Place, port: int) -> Iterator[None]:
    """Run the receiver of webhooks as `ftdm up` does."""
    command = [sys.executable, "-m", "ftdm_assets.sources.label_webhook", "--port", str(port)]
    with subprocess.Popen(command, env=place.environment) as process:
        try:
            until(lambda: reaches(port))
            yield
        finally:
            process.terminate()


def reaches(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _model(models: Path, server: Server, receiver: int) -> ModelFolder:
    attributes = {
        "name": "demo",
        "task": {"instruction": "Sort.", "taxonomy": ["a", "b"]},
        "labels": {
            "source": "label_studio",
            "label_studio": {
                "url": server.url,
                "project": "demo tickets",
                "webhook": f"http://127.0.0.1:{receiver}",
            },
            "request_on_change": True,
        },
        "golden": {"path": "golden.jsonl"},
    }
    folder = models / "demo"
    folder.mkdir()
    (folder / "golden.jsonl").write_text('{"text": "odd", "label": "a"}\n')
    defs = {"type": "ftdm_assets.DomainModel", "attributes": attributes}
    (folder / "defs.yaml").write_text(yaml.safe_dump(defs))
    return load_model("demo")
