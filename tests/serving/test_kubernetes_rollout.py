"""Versions roll out on a cluster whose pods are processes: real routers, real admission, real load.

The cluster is local (`tests.serving.cluster_server`); client, gateway, routers, what is asked of
the evidence and every command of a pod are the real ones, but for vLLM, which a fake stands in for.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient

from ftdm_assets.cluster.connection import connected
from ftdm_assets.provenance.trust import trust_key
from serving import moves
from serving.admission import StoreAdmission
from serving.deployment import (
    DeploymentError,
    RunningVersion,
    VersionSpec,
    resume,
    retire_others,
    start_version,
    stop_version,
)
from serving.engine import EngineCommand
from serving.gateway import GatewaySettings, create_app
from serving.health import healthy_replicas, serves
from serving.kubernetes.cluster import Cluster
from serving.kubernetes.place import Place
from serving.kubernetes.platform import Kubernetes
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.stack import down
from serving.versions import PointerError, Version
from tests.provenance.sealed import SHORT, Sealed, sealed
from tests.serving.cache_support import served
from tests.serving.cluster_server import NAMESPACE, ClusterServer
from tests.serving.serving_support import FAKE, Load, bearer

MODEL = "demo"
pytestmark = pytest.mark.alone


def fake_engine(
    folder: Path,
    served_name: str,
    port: int,
    *,
    python: str,
    host: str,
    threads: int,
    max_model_len: int,
    dtype: str,
) -> EngineCommand:
    """Stand in for `serving.engine.command_for`: the same signature, a program that starts fast."""
    del folder, threads, max_model_len, dtype
    base = f"http://{host}:{port}"
    where = ("--host", host, "--port", str(port))
    argv = (python, str(FAKE), *where, "--served-model-name", served_name)
    return EngineCommand(argv, {}, f"{base}/health", base)


def broken_engine(
    folder: Path, served_name: str, port: int, *, python: str, **_: Any
) -> EngineCommand:
    """Stand in for an engine that ends at its start."""
    del folder, served_name, port
    return EngineCommand((python, "-c", "raise SystemExit('told to fail')"), {}, "", "")


@dataclass
class Site:
    """A home with signed versions, and the cluster that serves them."""

    home: Path
    server: ClusterServer
    kubeconfig: Path
    place: Place
    replicas: int = 1
    patience_s: float = 30.0
    versions: dict[int, Sealed] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def admission(self) -> StoreAdmission:
        return StoreAdmission(self.home)

    def platform(self, **changes: Any) -> Kubernetes:
        connect = partial(connected, str(self.kubeconfig), "here", ApiClient)
        cluster = Cluster(connect, NAMESPACE, self.patience_s, 0.1, self.said.append)
        return Kubernetes(self.home, replace(self.place, **changes), cluster, self.server.hosts)

    def spec(self, number: int) -> VersionSpec:
        if number not in self.versions:
            made = sealed(self.home, SHORT, f"{MODEL}-v{number:04d}")
            trust_key(self.home / "trust", made.key.public)
            self.versions[number] = made
        facts = self.versions[number].root.manifest.facts
        digest = str(facts["merged_digest"])
        folder = self.versions[number].store.find("model", digest).path
        return VersionSpec(MODEL, str(facts["version"]), digest, folder, 2048, "bfloat16")

    def start(self, number: int, timeout_s: float = 60, **changes: Any) -> RunningVersion:
        return start_version(
            self.home,
            self.spec(number),
            admission=self.admission,
            replicas=self.replicas,
            timeout_s=timeout_s,
            progress=self.said.append,
            platform=self.platform(**changes),
        )

    def promote(self, number: int) -> None:
        moves.promote(
            self.home, MODEL, self.spec(number).version,
            by="test", reason="because", admission=self.admission,
        )  # fmt: skip

    def recorded(self, number: int) -> Version:
        with PointerStore(self.home) as store:
            return store.version(MODEL, f"v{number:04d}")

    def kinds(self, number: int) -> list[str]:
        """Return the kinds of a version's objects in the cluster."""
        return sorted(kind for kind, name in self.server.objects if f"-v{number:04d}" in name)


@dataclass
class Door:
    """A gateway's address and key."""

    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.key)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    server = ClusterServer(tmp_path / "cluster")
    server.world.claims["ftdm-home"] = home
    server.config(tmp_path / "kubeconfig")
    place = Place(
        NAMESPACE, "e@sha256:" + "a" * 64, "s@sha256:" + "b" * 64, "ftdm-home", "1Gi",
        router_replicas=1, engine=fake_engine,
    )  # fmt: skip
    try:
        yield Site(home, server, tmp_path / "kubeconfig", place)
    finally:
        server.close()


@contextmanager
def gateway(site: Site) -> Iterator[Door]:
    with served(create_app(GatewaySettings(site.home))) as url:
        yield Door(url, local_key(site.home))


@contextmanager
def away_for(server: ClusterServer, seconds: float) -> Iterator[None]:
    """Let the API be away from now on for some seconds."""
    server.away = True
    timer = threading.Timer(seconds, lambda: setattr(server, "away", False))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def settled(load: Load, version: str) -> bool:
    """Wait until a load is answered by a version."""
    end, begun = time.monotonic() + 20, len(load.answers)
    while time.monotonic() < end:
        if any(one.version == version for one in load.answers[begun:]):
            return True
        time.sleep(0.02)
    return False


def test_versions_come_and_go_under_load_and_nobody_notices(site: Site) -> None:
    site.replicas, site.place = 2, replace(site.place, router_replicas=2)
    first = site.start(1)
    assert first.version.state == "ready"
    assert all(serves(one.url, first.version.served_name) for one in first.version.replicas)
    assert healthy_replicas(first.version.router_url) == 2
    site.promote(1)
    with gateway(site) as door, Load(door, MODEL) as load:
        assert settled(load, f"{MODEL}-v0001")
        site.start(2)
        assert load.versions() == {f"{MODEL}-v0001"}
        site.promote(2)
        assert settled(load, f"{MODEL}-v0002")
        # What is up already is left alone, and so is what another platform knows of.
        applied = len(site.server.applied)
        assert site.start(2).seconds == 0.0
        assert resume(site.home, admission=site.admission, platform=site.platform()) == {}
        assert resume(site.home, admission=site.admission) == {}
        assert len(site.server.applied) == applied
        with pytest.raises(DeploymentError, match="v0002 runs on another platform"):
            start_version(site.home, site.spec(2), admission=site.admission)
        # A replica dies, its pod starts it again, behind admission.
        two = site.recorded(2).replicas[0].name.removesuffix("-0")
        pod = site.server.pods["statefulsets", two][0]
        os.kill(pod.main.lives[-1].process.pid, signal.SIGKILL)
        moves.rollback(site.home, MODEL, by="test", reason="back", admission=site.admission)
        assert settled(load, f"{MODEL}-v0001")
        moves.rollback(site.home, MODEL, by="test", reason="forth", admission=site.admission)
        # The API is away for a while in the midst of it.
        with away_for(site.server, 1.0):
            site.start(3)
        assert any("trying again" in one for one in site.said)
        site.promote(3)
        assert settled(load, f"{MODEL}-v0003")
        retired = retire_others(site.home, MODEL, platform=site.platform())
        assert retired == [f"{MODEL}-v0001"]
        with pytest.raises(DeploymentError, match="kept warm"):
            stop_version(site.home, MODEL, "v0002", platform=site.platform())
        assert settled(load, f"{MODEL}-v0003")
    assert load.failures() == []
    assert len(load.answers) > 50
    assert site.kinds(1) == []
    assert len(site.kinds(2)) == len(site.kinds(3)) == 8
    assert (site.recorded(1).state, site.recorded(2).state) == ("stopped", "ready")
    assert len(pod.main.lives) == 2
    assert serves(site.recorded(2).replicas[0].url, site.recorded(2).served_name)
    with pytest.raises(PointerError, match="is stopped, not ready"):
        moves.rollback(site.home, MODEL, "v0001", by="t", reason="r", admission=site.admission)
    # What is stopped here is not what runs in the cluster.
    down(site.home)
    assert site.recorded(3).state == "ready"


def flip_a_byte(site: Site) -> dict[str, Any]:
    """Change the weights after this machine has looked at them, as seen by the pods."""
    folder = site.spec(1).folder
    claim = site.home.with_name("claim")
    shutil.copytree(site.home, claim)
    site.server.world.claims["ftdm-home"] = claim
    path = claim / folder.relative_to(site.home) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(bytes(content))
    return {}


def has_no_image(site: Site) -> dict[str, Any]:
    site.server.world.missing_images.add(site.place.engine_image)
    return {}


def has_no_router_image(site: Site) -> dict[str, Any]:
    site.server.world.missing_images.add(site.place.serving_image)
    return {}


def has_no_node(site: Site) -> dict[str, Any]:
    site.server.world.nodes = 0
    return {"timeout_s": 1.5}


def has_no_home(site: Site) -> dict[str, Any]:
    site.server.world.claims["ftdm-home"] = site.home / "elsewhere"
    return {}


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (flip_a_byte, r"keeps ending.*container bring:.*model\.safetensors was changed"),
        (has_no_image, r"cannot get its image; pod .*ImagePullBackOff: Back-off pulling image"),
        (has_no_router_image, r"-router cannot get its image; pod .*ImagePullBackOff"),
        (has_no_node, r"did not answer in time; .*Unschedulable: 0/3 nodes are available"),
        (has_no_home, r"lacks something that it needs to be made.*no subPath"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_rollout_that_fails_says_why_and_leaves_nothing(
    site: Site, breaks: Callable[[Site], dict[str, Any]], told: str
) -> None:
    site.spec(1)
    with pytest.raises(DeploymentError, match=f"(?s)demo-v0001 was not started: .*{told}"):
        site.start(1, **breaks(site))
    assert site.server.objects == {}
    assert site.recorded(1).state == "failed"


def first_name(site: Site) -> str:
    return site.recorded(1).replicas[0].name.removesuffix("-0")


def test_production_stays_as_it_was_when_a_rollout_fails(site: Site) -> None:
    # An answer that is lost is asked for again: what was applied is applied once more.
    site.server.cut["apply statefulsets"] = 1
    site.start(1)
    assert site.server.applied.count(f"statefulsets/{first_name(site)}") == 2
    site.promote(1)
    before = {key: one for key, one in site.server.objects.items() if "v0001" in key[1]}
    with gateway(site) as door, Load(door, MODEL) as load:
        told = r"(?s)v0002 was not started: .*keeps ending at its start.*CrashLoop.*told to fail"
        with pytest.raises(DeploymentError, match=told):
            site.start(2, engine=broken_engine)
        assert settled(load, f"{MODEL}-v0001")
    assert load.failures() == []
    assert site.server.objects == before
    with PointerStore(site.home) as store:
        assert store.resolve(MODEL).version == f"{MODEL}-v0001"


def test_an_api_that_is_away_for_good_is_said(site: Site) -> None:
    site.patience_s = 2.0
    site.server.away = True
    with pytest.raises(DeploymentError, match="Kubernetes was out of reach for 2 s"):
        site.start(1)
    assert not site.server.objects


def test_an_api_that_goes_away_in_a_rollout_says_what_may_be_left(site: Site) -> None:
    site.patience_s = 0.5
    site.server.world.nodes = 0
    threading.Timer(1.5, lambda: setattr(site.server, "away", True)).start()
    with pytest.raises(DeploymentError, match=r"out of reach.*may still run.*kubectl -n serving"):
        site.start(1, timeout_s=20)
    assert site.recorded(1).state == "failed"
    # Once it is back, another try finds what was left and takes it over.
    site.patience_s, site.server.away, site.server.world.nodes = 30, False, 1
    assert site.start(1).version.state == "ready"


def test_what_the_api_refuses_is_said_in_its_words(site: Site) -> None:
    with pytest.raises(DeploymentError, match=r"applying StatefulSet .*: Kubernetes answered 400"):
        site.start(1, router_replicas=1, resources={"limits": ["none"]})
    assert site.server.objects == {}


def test_weights_outside_of_the_store_are_refused(site: Site, tmp_path: Path) -> None:
    spec = replace(site.spec(1), folder=tmp_path)
    with (
        PointerStore(site.home) as store,
        pytest.raises(DeploymentError, match="lies outside of the store"),
    ):
        site.platform().plan(store, spec, 2)
