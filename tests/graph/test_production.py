"""Where production runs: the settings choose it, and deploying goes the same way on a cluster."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from pydantic import ValidationError

from ftdm_assets.graph import prediction, production, registered_version, release
from ftdm_assets.graph.plan import Reading
from ftdm_assets.provenance.trust import trust_key
from ftdm_assets.serving_settings import ServingSettings
from golden.examples import Example
from serving.admission import StoreAdmission
from serving.gateway import GatewaySettings, create_app
from serving.kubernetes import platform
from serving.local_key import local_key
from serving.platform import DeploymentError
from serving.pointer import PointerStore
from serving.sleep import can_sleep
from serving.supervised import Supervised
from tests.graph.samples import model_folder
from tests.graph.stage import StepsHere
from tests.provenance.sealed import SHORT, sealed
from tests.serving.cache_support import served
from tests.serving.cluster_server import VERSION, ClusterServer
from tests.serving.cluster_site import kubernetes_at

POD = {
    "engine_image": "e@sha256:" + "a" * 64,
    "gateway_url": "http://ftdm-gateway.serving.svc.cluster.local:8321",
}
EVERYTHING: dict[str, Any] = {
    "kubeconfig": "~/config", "context": "here", "namespace": "mine", "service_account": "sa",
    "image_pull_secrets": ["registry"], "cpu": "7500m", "memory": "64Gi", "disk": "40Gi",
    "node_selector": {"gpu": "L40S"}, "tolerations": [{"key": "nvidia.com/gpu"}],
    "priority_class": "production", "labels": {"cost-centre": "7"}, "home_claim": "home",
    "cluster_domain": "corp.example",
}  # fmt: skip


class Registered(Reading):
    """Reads a version as it was registered."""

    def __init__(self, registered: Mapping[str, Any], *given: Any) -> None:
        super().__init__(*given)
        self.registered = registered

    def document(self, asset: str) -> Any:
        return self.registered


def reading_of(home: Path, previous: str = "running", **pod: Any) -> Registered:
    """Return a reading whose model is served on a cluster; version 1 is registered and signed."""
    serving = {"platform": "kubernetes", "previous": previous, "kubernetes": {**POD, **pod}}
    labels = ["w0 w1", "other"]
    task = {"instruction": "Sort.", "taxonomy": labels}
    model = model_folder(home.parent / "demo", serving=serving, task=task)
    made = sealed(home, SHORT)
    trust_key(home / "trust", made.key.public)
    facts = made.root.manifest.facts
    version = {
        "version": facts["version"], "digest": facts["merged_digest"], "number": 1,
        "form": {"choice": labels},
    }  # fmt: skip
    return Registered(version, model, home, made.store)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home beside a database that several machines share; none is asked in these tests."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "own-database").touch()
    monkeypatch.setenv("FTDM_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nowhere")
    monkeypatch.delenv("FTDM_API_KEY", raising=False)
    return home


def test_the_address_is_that_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTDM_GATEWAY_PORT", "1234")
    assert production.endpoint(ServingSettings()) == "http://127.0.0.1:1234/v1"
    there = ServingSettings.model_validate({"platform": "kubernetes", "kubernetes": POD})
    assert production.endpoint(there) == f"{POD['gateway_url']}/v1"
    prepared = there.model_copy(update={"platform": "local"})
    assert production.endpoint(prepared) == "http://127.0.0.1:1234/v1"


def test_the_key_is_the_homes_own_or_the_one_that_is_given(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = reading_of(shared)
    assert production.gateway(reading).api_key == local_key(shared)
    monkeypatch.setenv("FTDM_API_KEY", "given")
    assert production.gateway(reading).api_key == "given"
    here = Reading(model_folder(shared.parent / "here"), shared, reading.store)
    assert production.gateway(here).api_key == local_key(shared)


def test_a_cluster_without_a_shared_database_is_refused(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FTDM_DATABASE_URL")
    with pytest.raises(ValueError, match=r"serving\.platform: kubernetes needs FTDM_DATABASE_URL"):
        production.prepared(reading_of(shared), StoreAdmission(shared), print)


def test_a_cluster_that_nothing_names_is_said(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    reading = reading_of(shared, kubeconfig=str(tmp_path / "none"))
    admission, tools = StoreAdmission(shared), StepsHere()
    there = production.prepared(reading, admission, tools.say)
    with pytest.raises(DeploymentError, match=r"no cluster is named.*serving\.kubernetes\.kubec"):
        release._started(reading, tools, dict(reading.registered), admission, there)


def test_this_machine_is_the_platform_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr("serving.stack.up", lambda *given, **_: called.append(given))
    made = sealed(tmp_path, SHORT)
    reading = Reading(model_folder(tmp_path / "demo"), tmp_path, made.store)
    found = production.prepared(reading, StoreAdmission(tmp_path), print)
    assert found == Supervised(tmp_path)
    assert called == [(tmp_path,)]


def test_who_rolls_back_is_told_the_platform_and_nothing_is_started(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.stack.up", lambda *_, **__: pytest.fail("started"))
    reading = reading_of(shared, context="none", namespace="mine")
    there = production.platform(reading, print)
    assert isinstance(there, platform.Kubernetes)
    assert (there.home, there.place.namespace) == (shared, "mine")
    here = Reading(model_folder(shared.parent / "here"), shared, reading.store)
    assert production.platform(here, print) == Supervised(shared)


def test_what_only_routers_needed_is_refused_by_name() -> None:
    for name, value in (("serving_image", POD["engine_image"]), ("router_replicas", 2)):
        with pytest.raises(ValidationError, match=name):
            ServingSettings.model_validate(
                {"platform": "kubernetes", "kubernetes": {**POD, name: value}}
            )


def test_every_setting_reaches_the_objects(shared: Path) -> None:
    reading = reading_of(shared, **EVERYTHING)
    made = production.prepared(reading, StoreAdmission(shared), print)
    assert isinstance(made, platform.Kubernetes)
    # Planned without a cluster: what is there already is asked of none.
    found = dict(reading.registered)
    folder = reading.store.find("model", found["digest"]).path
    version = _planned(made, found, folder)
    objects = made._all(version)
    for one in objects:
        kubernetes_validate.validate(one, VERSION, strict=True)
        assert one["metadata"]["namespace"] == "mine"
        assert one["metadata"]["labels"]["cost-centre"] == "7"
    (engine,) = (one["spec"]["template"]["spec"] for one in objects if "template" in one["spec"])
    assert engine["nodeSelector"] == {"gpu": "L40S"}
    assert engine["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert engine["serviceAccountName"] == "sa"
    assert engine["priorityClassName"] == "production"
    assert engine["imagePullSecrets"] == [{"name": "registry"}]
    assert engine["automountServiceAccountToken"] is False
    (container,) = engine["containers"]
    assert container["image"] == POD["engine_image"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1", "memory": "64Gi"}
    told = {item["name"]: item["value"] for item in container["env"]}
    assert told["OMP_NUM_THREADS"] == "7"
    assert all(one.url.endswith(".mine.svc.corp.example:8000") for one in version.replicas)
    claims = [one for one in engine["volumes"] if "persistentVolumeClaim" in one]
    assert claims[0]["persistentVolumeClaim"]["claimName"] == "home"


def _planned(made: platform.Kubernetes, found: Mapping[str, Any], folder: Path) -> Any:
    from serving.platform import VersionSpec

    spec = VersionSpec("demo", found["version"], found["digest"], folder, 2048, "bfloat16")
    cluster = replace(made.cluster)
    cluster.exists = lambda *_: False  # type: ignore[method-assign]
    with PointerStore(made.home) as store:
        return replace(made, cluster=cluster).plan(store, spec, 2)[0]


@pytest.mark.parametrize(
    ("cpu", "threads"), [(None, 1), ("7500m", 7), ("8", 8), ("500m", 1), ("1k", 1), ("2.5", 2)]
)
def test_an_engine_counts_with_whole_cores(cpu: str | None, threads: int) -> None:
    assert production._threads(cpu) == threads


@pytest.mark.alone
def test_a_version_is_deployed_on_a_cluster(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ClusterServer(tmp_path / "cluster")
    server.world.claims["ftdm-home"] = shared
    server.config(tmp_path / "kubeconfig")
    monkeypatch.setattr(platform, "Kubernetes", kubernetes_at(server))
    scores = {"task": {"correct": 9, "total": 10, "per_example": []}}
    examples = [Example(f"g{number}", "text", "w0 w1", "") for number in range(10)]
    monkeypatch.setattr(registered_version, "scores_of", lambda *_: scores)
    monkeypatch.setattr(release, "record_aliases", lambda _: None)
    monkeypatch.setattr(prediction, "examples_of", lambda _: examples)
    tools = StepsHere()
    try:
        with served(create_app(GatewaySettings(shared))) as url:
            where = {"kubeconfig": str(tmp_path / "kubeconfig"), "context": "here"}
            reading = reading_of(shared, "asleep", gateway_url=url, poll_seconds=0.1, **where)
            built = release._build_deployed(reading, tools)
            again = release._build_deployed(reading, tools)
    finally:
        server.close()
    assert built.facts["version"] == "demo-v0001"
    assert built.facts["endpoint"] == f"{url}/v1"
    assert built.facts["smoke_correct"] == 10
    assert again.facts["replicas"] == built.facts["replicas"]
    assert len(set(server.applied)) == len(server.applied) == 4
    (made,) = [one for key, one in server.objects.items() if key[0] == "statefulsets"]
    assert "--enable-sleep-mode" in made["spec"]["template"]["spec"]["containers"][0]["command"]
    with PointerStore(shared) as store:
        version = store.resolve("demo")
    assert version.state == "ready"
    assert can_sleep(version)
    assert version.form == reading.registered["form"]
    assert version.cache == release.cache_terms(reading.model.settings)
