"""A real Label Studio server: two people label, the graph reads, a review decides."""

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.execute import Work, execute
from ftdm_assets.graph.plan import GraphPlan, Reading
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.graph.sources import current_digests, requests
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.doubts import in_doubt
from ftdm_assets.sources.label_studio import LabelStudioSource
from ftdm_assets.sources.label_studio_project import ensure_project, send_reviews, send_texts
from tests.graph.samples import model_folder
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
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTDM_LABEL_STUDIO_TOKEN", TOKEN)
    model = _model(tmp_path, server)
    source = LabelStudioSource(model)

    project, made = ensure_project(model)
    assert made
    assert ensure_project(model) == (project, False)
    assert send_texts(model, TEXTS) == 60
    assert send_texts(model, TEXTS) == 0

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
        assert requests(graph, current_digests_of_labels(graph)) == []

        old = before.manifest("raw_labels")
        old_rows = {row["record_id"]: row for row in before.records("raw_labels")}
        # The second person edits what the first one wrote: it stays credited to the first.
        second.edit(own[59], "a")
        [request] = requests(graph, current_digests_of_labels(graph))
        assert request.asset_selection == [dg.AssetKey(["demo", "raw_labels"])]
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

    doubtful = in_doubt(frame_of(source), CleanSettings())
    assert {item.input for item in doubtful} == {TEXTS[n] for n in (*range(6), *range(30, 36), 59)}
    assert kept_label(source, TEXTS[0]) is None
    assert len(send_reviews(model, doubtful, limit=3)) == 3
    sent = send_reviews(model, doubtful, limit=100)
    assert len(sent) == 10
    assert send_reviews(model, doubtful, limit=100) == []
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


def current_digests_of_labels(graph: GraphPlan) -> dict[str, str]:
    plan = graph.asset("raw_labels")
    found = dict(plan.sources(graph.model))
    assert set(found) <= set(current_digests(graph))
    return found


def _model(folder: Path, server: Server) -> ModelFolder:
    return model_folder(
        folder / "demo",
        labels={
            "source": "label_studio",
            "label_studio": {"url": server.url, "project": "demo tickets"},
            "request_on_change": True,
        },
    )
