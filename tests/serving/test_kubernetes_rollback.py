"""Rollbacks on a cluster whose pods are processes: by the command, by the job, over HTTP.

What is not warm is started by whoever has the settings of the cluster; a gateway has not.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import httpx
import pytest
import yaml

from ftdm_assets.commands import rollback as command
from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.evidence import DEPLOYED
from ftdm_assets.graph.rollback import rollback_job
from ftdm_assets.home import dagster_home
from ftdm_assets.model_folder import load_model
from ftdm_assets.provenance.trust import revoke_key
from serving import cold
from serving.admission import AdmissionError
from serving.api_keys import Grant, KeyStore
from serving.cold import ColdStartError, StartTerms
from serving.deployment import resume, retire_others
from serving.health import answering, get_json
from serving.sleep import put_to_sleep
from tests.provenance.sealed import AT
from tests.serving.cluster_server import NAMESPACE
from tests.serving.cluster_site import (
    MODEL,
    V1,
    V2,
    V3,
    Site,
    broken_engine,
    cluster_site,
    gateway,
    kubernetes_at,
    settled,
    until,
)
from tests.serving.serving_support import bearer, under_load
from tests.test_settings import GOOD

pytestmark = pytest.mark.alone


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with cluster_site(tmp_path) as one:
        yield one


@pytest.fixture
def third(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Version 3 is current, version 2 is warm, version 1 is stopped; defs.yaml names the cluster.

    MLflow is left out: its aliases are a copy of the pointer.
    """
    site.replicas = 2
    site.put(1, 2, 3)
    assert retire_others(site.home, MODEL, platform=site.platform()) == [V1]
    pods = {
        "engine_image": site.place.engine_image,
        "gateway_url": "http://ftdm-gateway.serving.svc.cluster.local:8321",
        "kubeconfig": str(site.kubeconfig),
        "context": "here",
        "namespace": NAMESPACE,
        "disk": site.place.disk,
        "poll_seconds": 0.1,
    }
    serving = {"platform": "kubernetes", "startup_timeout_s": 60, "kubernetes": pods}
    document = {"type": "ftdm_assets.DomainModel", "attributes": {**GOOD, "serving": serving}}
    defs = tmp_path / "models" / MODEL / "defs.yaml"
    defs.parent.mkdir(parents=True)
    defs.write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setenv("FTDM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("FTDM_HOME", str(site.home))
    monkeypatch.setenv("FTDM_ACTOR", "ana")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setattr("serving.kubernetes.platform.Kubernetes", kubernetes_at(site.server))
    for where in ("release", "rollback"):
        monkeypatch.setattr(f"ftdm_assets.graph.{where}.record_aliases", lambda _: None)
    return site


def by_command(to: str) -> None:
    assert command.rollback(MODEL, to, "night", as_json=False) == 0


def by_job(to: str) -> None:
    dagster_home()
    config = {"ops": {f"{MODEL}_rollback_op": {"config": {"to": to, "reason": "night"}}}}
    with dg.DagsterInstance.get() as instance:
        job = rollback_job(build_plan(load_model(MODEL)))
        assert job.execute_in_process(instance=instance, run_config=config).success


@pytest.mark.parametrize("back", [by_command, by_job])
def test_command_and_job_start_what_is_stopped_on_the_cluster(
    third: Site, back: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    assert third.kinds(1) == []
    with gateway(third) as door, under_load(door, MODEL, count=2) as load:
        back("v0001")
        assert settled(load, V1)
    assert load.failures() == []
    assert load.versions() == {V3, V1}
    assert (len(third.kinds(1)), third.kinds(2), len(third.kinds(3))) == (4, [], 4)
    assert (third.recorded(1).state, third.recorded(2).state) == ("ready", "stopped")
    assert answering(third.recorded(1)) == 2
    told = "".join(capfd.readouterr())
    for said in (
        f"{V1} is not warm: it is started first, production is {V3} meanwhile",
        f"{V1} is applied to namespace {NAMESPACE} as ftdm-demo-",
        f"each replica of {V1} has answered",
        f"production is {V1} again, it was {V3}",
        f"{V2} is stopped",
    ):
        assert said in told
    made = third.versions[1].store.manifests(MODEL, DEPLOYED)[-1].facts
    move = (made["kind"], made["version"], made["from_version"], made["reason"])
    assert move == ("rollback", V1, V3, "night")
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey([MODEL, DEPLOYED]))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.description == f"rollback to {V1}"


def test_the_command_goes_back_to_what_is_warm_without_the_cluster(
    third: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    third.server.away = True
    assert command.rollback(MODEL, None, "night", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["to_version"] == V2


def test_the_command_moves_nothing_where_the_start_fails(
    third: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = kubernetes_at(third.server, broken_engine)
    monkeypatch.setattr("serving.kubernetes.platform.Kubernetes", broken)
    before = third.pointer(), dict(third.server.objects)
    with pytest.raises(ColdStartError, match=r"(?s)as before: demo-v0001 was not started.*to fail"):
        by_command("v0001")
    assert (third.pointer(), third.server.objects) == before
    assert answering(third.recorded(3)) == 2
    assert third.versions[1].store.manifests(MODEL, DEPLOYED) == []


def test_the_command_starts_nothing_that_is_not_admitted(third: Site) -> None:
    applied, before = len(third.server.applied), third.pointer()
    signed_by = third.versions[1].key.public.key_id
    revoke_key(third.home / "trust", signed_by, by="bob", reason="lost", at=AT)
    with pytest.raises(AdmissionError, match=r"was revoked \(lost, by bob"):
        by_command("v0001")
    assert (len(third.server.applied), third.pointer()) == (applied, before)


def test_over_http_what_is_not_warm_on_the_cluster_is_refused_at_once(third: Site) -> None:
    with KeyStore(third.home) as store:
        key = store.new(Grant("ana", admin=True), by="t").text
    before = third.pointer(), dict(third.server.objects)
    asked = {"model": MODEL, "reason": "night"}
    with gateway(third) as door, httpx.Client(base_url=door.url, headers=bearer(key)) as client:
        refused = client.post("/admin/rollback", json={**asked, "to": "v0001"})
        assert (third.pointer(), third.server.objects) == before
        status = client.get("/admin/rollback", params={"model": MODEL})
        warm = client.post("/admin/rollback", json=asked)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], status.status_code) == (409, "not_moved", 404)
    assert error["message"].startswith(f"production is {V3} as before: {V1} has run on another ")
    assert f"`ftdm rollback {MODEL} --to {V1}`" in error["message"]
    assert f"Dagster's job {MODEL}_rollback with `to: {V1}`" in error["message"]
    assert (warm.status_code, warm.json()["to_version"]) == (200, V2)


def test_without_settings_what_is_stopped_on_the_cluster_is_not_started_here(third: Site) -> None:
    before = third.pointer(), dict(third.server.objects)
    told = rf"production is {V3} as before: {V1} has run on another platform \(http://127"
    with pytest.raises(ColdStartError, match=told):
        cold.rollback(
            third.home, MODEL, "v0001", by="test", reason="night", admission=third.admission
        )
    assert (third.pointer(), third.server.objects) == before
    assert third.recorded(1).state == "stopped"


def asleep(site: Site, number: int) -> bool:
    (one,) = site.recorded(number).replicas
    return bool(get_json(f"{one.url}/is_sleeping")[1]["is_sleeping"])


def test_a_previous_version_sleeps_in_its_pod_and_wakes_for_a_rollback(site: Site) -> None:
    site.sleeps = True
    site.put(1, 2)
    assert put_to_sleep(site.home, MODEL) == V1
    assert (site.recorded(1).state, asleep(site, 1), asleep(site, 2)) == ("asleep", True, False)
    applied = len(site.server.applied)
    # Asleep counts as up: a rollout that is done again leaves it be.
    assert resume(site.home, admission=site.admission, platform=site.platform(), model=MODEL) == {}
    assert asleep(site, 1)
    with gateway(site) as door, under_load(door, MODEL, count=2) as load:
        cold.rollback(
            site.home, MODEL, by="test", reason="back", admission=site.admission,
            start=lambda: StartTerms(site.platform()),
        )  # fmt: skip
        assert settled(load, V1)
    assert load.failures() == []
    until(lambda: site.recorded(2).state == "asleep" and asleep(site, 2))
    assert not asleep(site, 1)
    assert len(site.server.applied) == applied
