"""A home with signed versions and the local cluster that serves them; what tests of it share."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient

from bench.kept_alive import Callers
from ftdm_assets.cluster.connection import connected
from ftdm_assets.provenance.trust import trust_key
from serving import moves
from serving.admission import StoreAdmission
from serving.deployment import RunningVersion, start_version
from serving.engine import EngineCommand
from serving.gateway import GatewaySettings, create_app
from serving.kubernetes.cluster import Cluster
from serving.kubernetes.naming import Hosts
from serving.kubernetes.place import Place, PodEngine
from serving.kubernetes.platform import Kubernetes
from serving.local_key import local_key
from serving.platform import VersionSpec
from serving.pointer import PointerStore
from serving.rotation import Rotation
from serving.versions import Pointer, Version
from tests.provenance.sealed import SHORT, Sealed, sealed
from tests.serving.cache_support import served
from tests.serving.cluster_pod import ClusterPod
from tests.serving.cluster_server import NAMESPACE, ClusterServer
from tests.serving.serving_support import FAKE, bearer

MODEL = "demo"
V1, V2, V3 = (f"{MODEL}-v000{number}" for number in (1, 2, 3))


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
    sleeps: bool = False
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
        version = str(facts["version"])
        return VersionSpec(MODEL, version, digest, folder, 2048, "bfloat16", sleeps=self.sleeps)

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

    def pointer(self) -> Pointer | None:
        with PointerStore(self.home) as store:
            return store.pointer(MODEL)

    def put(self, *numbers: int) -> None:
        """Start and promote."""
        for number in numbers:
            self.start(number)
            self.promote(number)

    def pod(self, number: int, index: int = 0) -> ClusterPod:
        name = self.recorded(number).replicas[0].name.removesuffix("-0")
        return self.server.pods[name][index]

    def kinds(self, number: int) -> list[str]:
        """Return the kinds of a version's objects in the cluster."""
        return sorted(kind for kind, name in self.server.objects if f"-v{number:04d}" in name)


@dataclass
class Door:
    """A gateway's address and key, and what it knows of the replicas."""

    url: str
    key: str
    rotation: Rotation

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.key)


@contextmanager
def cluster_site(folder: Path) -> Iterator[Site]:
    """Yield a site whose cluster is stopped at the end."""
    home = folder / "home"
    server = ClusterServer(folder / "cluster")
    server.world.claims["ftdm-home"] = home
    server.config(folder / "kubeconfig")
    image = "e@sha256:" + "a" * 64
    place = Place(NAMESPACE, image, "ftdm-home", "1Gi", engine=fake_engine)
    try:
        yield Site(home, server, folder / "kubeconfig", place)
    finally:
        server.close()


@contextmanager
def gateway(site: Site) -> Iterator[Door]:
    rotation = Rotation()
    with served(create_app(GatewaySettings(site.home), rotation=rotation)) as url:
        yield Door(url, local_key(site.home), rotation)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def settled(load: Callers, version: str) -> bool:
    """Wait until a load is answered by a version."""
    end, begun = time.monotonic() + 20, len(load.answers)
    while time.monotonic() < end:
        if any(one.version == version for one in load.answers[begun:]):
            return True
        time.sleep(0.02)
    return False


def kubernetes_at(server: ClusterServer, engine: PodEngine = fake_engine) -> Callable[..., Any]:
    """Return what makes the platform as it is, but for vLLM and the cluster's DNS."""

    def make(home: Path, place: Place, cluster: Cluster, hosts: Hosts) -> Kubernetes:
        del hosts
        return Kubernetes(home, replace(place, engine=engine), cluster, server.hosts)

    return make
