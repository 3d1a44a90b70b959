"""The platform `kubernetes`: a StatefulSet of replicas for a version, and what belongs to it.

Invariants:
- a version's addresses follow from its name alone, so a rollout that is done again, by whoever,
  meets the same objects and changes nothing where they are as they should be;
- who may reach replicas is said before any runs;
- production is never touched: every version has objects of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ftdm_assets.provenance.store import store_folder
from serving.admission import Admission
from serving.health import serves
from serving.home import Home
from serving.kubernetes.cluster import Cluster
from serving.kubernetes.naming import (
    ENGINE_PORT,
    VERSION_LABEL,
    Hosts,
    object_name,
    replica_url,
)
from serving.kubernetes.objects import ENGINE, selector
from serving.kubernetes.place import Place
from serving.kubernetes.pods import PodsWatched
from serving.kubernetes.policies import policies
from serving.kubernetes.replicas import replica_objects
from serving.platform import (
    DeploymentError,
    VersionSpec,
    need_a_replica,
    planned_version,
    with_terms,
)
from serving.pointer import PointerStore
from serving.versions import Replica, Version
from serving.waiting import await_all


@dataclass(frozen=True)
class Kubernetes:
    """A namespace of a cluster as a platform; see `serving.platform.Platform`.

    Attributes:
        home: Whose store holds the weights; the cluster has it behind the claim of `place`.
        place: How versions run there.
        cluster: The API.
        hosts: How pods and services are reached, by their names.
    """

    home: Path
    place: Place
    cluster: Cluster
    hosts: Hosts

    def plan(
        self, store: PointerStore, spec: VersionSpec, replicas: int
    ) -> tuple[Version, frozenset[str]]:
        """Give addresses by the version's name; see `Platform`."""
        need_a_replica(replicas)
        name = object_name(spec.model, spec.version)
        urls = [replica_url(self.hosts, name, index) for index in range(replicas)]
        planned = planned_version(
            spec,
            tuple(
                Replica(f"{name}-{index}", url, ENGINE_PORT, None, sleeps=spec.sleeps)
                for index, url in enumerate(urls)
            ),
        )
        objects = self._all(planned)
        before = frozenset(_key(one) for one in objects if self._exists(one))
        for known in store.versions():
            same = (known.model, known.version, known.digest, [one.url for one in known.replicas])
            # Whether its engines can sleep was settled when they were started.
            if before and same == (spec.model, spec.version, spec.digest, urls):
                return with_terms(store, known, spec), before
        return store.record_version(planned), before

    def start(
        self,
        version: Version,
        admission: Admission,
        end: float,
        progress: Callable[[str], None],
    ) -> None:
        """Apply policies and replicas, and wait; see `Platform`."""
        del admission  # It was asked before, and each pod asks it again.
        name = object_name(version.model, version.version)
        self._apply(self._all(version))
        progress(f"{version.version} is applied to namespace {self.place.namespace} as {name}")
        watched = PodsWatched(self.cluster, selector(version, ENGINE))
        answers = {
            one.name: partial(_answers, watched, one, version.served_name)
            for one in version.replicas
        }
        await_all(watched, dict(answers), end, progress)

    def remove(self, version: Version, but: frozenset[str] = frozenset()) -> None:
        """Delete a version's objects; see `Platform`."""
        try:
            for one in reversed(self._all(version)):
                if _key(one) not in but:
                    self.cluster.delete(one["kind"], one["metadata"]["name"])
        except DeploymentError as error:
            name = object_name(version.model, version.version)
            kinds = "statefulset,service,poddisruptionbudget,networkpolicy"
            raise DeploymentError(
                f"{error}; what is left goes with `kubectl -n {self.place.namespace} delete "
                f"{kinds} -l {VERSION_LABEL}={name}`"
            ) from error

    def runs(self, version: Version) -> bool:
        """Say whether a version is recorded at the addresses that it has here."""
        name = object_name(version.model, version.version)
        urls = [replica_url(self.hosts, name, index) for index in range(len(version.replicas))]
        return urls != [] and [one.url for one in version.replicas] == urls

    def _all(self, version: Version) -> list[dict[str, Any]]:
        source = self._source(version.folder)
        return [*policies(version, self.place), *replica_objects(version, self.place, source)]

    def _source(self, folder: Path) -> PurePosixPath:
        """Return where the weights lie in the home, as a pod sees it."""
        home = Home.at(self.home).folder
        if not folder.is_relative_to(store_folder(home)):
            raise DeploymentError(
                f"{folder} lies outside of the store {store_folder(home)}, and pods read weights "
                "there: put the model into the store."
            )
        return PurePosixPath(folder.relative_to(home))

    def _apply(self, objects: list[dict[str, Any]]) -> None:
        for one in objects:
            self.cluster.apply(one)

    def _exists(self, one: Mapping[str, Any]) -> bool:
        return self.cluster.exists(one["kind"], one["metadata"]["name"])


def _key(one: Mapping[str, Any]) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def _answers(watched: PodsWatched, one: Replica, served_name: str) -> bool:
    """Say whether the cluster calls a replica's pod ready and it serves the version's name."""
    return watched.ready(one.name) and serves(one.url, served_name)
