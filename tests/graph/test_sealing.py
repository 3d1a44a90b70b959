"""A version is registered, signed and refused on real Dagster runs with a real MLflow."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ftdm_assets.audit.verify import verify_version
from ftdm_assets.commands.signing_key import new, revoke
from ftdm_assets.graph import registered_version
from ftdm_assets.graph.execute import Work, execute, work_to_do
from ftdm_assets.graph.plan import AssetPlan, Built, GraphPlan, Reading, Tools
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.home import home, trust
from ftdm_assets.signing import home_key_id
from tests.graph.samples import model_folder
from tests.provenance.sealed import BASELINE, FACTS, INPUTS, SCORES, stored


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def graph_of(folder: Path) -> GraphPlan:
    """Return a graph whose first assets are small documents, and whose last is the real one."""
    model = model_folder(folder / "demo")

    def plan(name: str) -> AssetPlan:
        def build(reading: Reading, tools: Tools) -> Built:
            return Built(stored(reading.store, name), facts=FACTS.get(name, {}))

        return AssetPlan(name, "stage", "", build, "1", {}, deps=INPUTS[name])

    last = registered_version.asset(model, "release")
    return GraphPlan(model, (*map(plan, INPUTS), last), tuple(registered_version.checks()))


def run(graph: GraphPlan, instance: dg.DagsterInstance, *assets: str) -> str:
    return execute(graph, instance, Work(frozenset(assets), frozenset()), str(uuid.uuid4()))


def test_a_version_is_signed_when_registered_and_refused_when_its_key_is_revoked(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    graph = graph_of(tmp_path)
    assert run(graph, instance, *INPUTS, "registered_version") == ""
    reading = reading_of(graph)
    assert verify_version(reading.store, "demo-v0001", trust()).findings == []
    assert work_to_do(graph, instance, None).nothing
    assert (home() / "keys" / "signing.pem").stat().st_mode & 0o077 == 0

    revoke(home_key_id(home()), "lost", as_json=False)
    (told, *_) = verify_version(reading.store, "demo-v0001", trust()).findings
    assert "was revoked (lost" in told
    # The verdict that it is signed does not count any more.
    assert work_to_do(graph, instance, None).checks == {("registered_version", "signed")}

    new(as_json=False)
    assert run(graph, instance, "registered_version") == ""
    assert verify_version(reading.store, "demo-v0001", trust()).findings == []
    assert reading.document("registered_version")["form"] == SCORES["form"]
    assert SCORES["task"] == reading.document("eval_scores")["task"]
    assert reading.document("baseline_scores") == BASELINE
