"""What a version is started from, and what a platform that runs its replicas has to do.

Invariant: how a version is recorded is the same on every platform; only its addresses differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from serving import names
from serving.admission import Admission
from serving.health import answering
from serving.pointer import PointerStore
from serving.sleep import can_sleep
from serving.versions import CacheTerms, Replica, Version


class DeploymentError(Exception):
    """A version could not be started or stopped; the message says why and what to do."""


@dataclass(frozen=True)
class VersionSpec:
    """What to start: a version, by its full name, and the folder of its merged model.

    `form` is what its answers are held to: see `serving.answer_form`. `sleeps` starts its engines
    so that they can be put to sleep while it is the previous one.
    """

    model: str
    version: str
    digest: str
    folder: Path
    max_model_len: int
    dtype: str
    cache: CacheTerms = field(default_factory=CacheTerms)
    form: Mapping[str, Any] = field(default_factory=dict)
    sleeps: bool = False


def recorded_spec(version: Version) -> VersionSpec:
    """Return what starts a recorded version again."""
    return VersionSpec(
        *(version.model, version.version, version.digest, version.folder),
        version.max_model_len,
        version.dtype,
        cache=version.cache,
        form=version.form,
        sleeps=can_sleep(version),
    )


class Platform(Protocol):
    """Where a version's replicas run; left out, on this machine: `serving.supervised`."""

    def plan(
        self, store: PointerStore, spec: VersionSpec, replicas: int
    ) -> tuple[Version, frozenset[str]]:
        """Record a version with its addresses; return it, and the names of its parts that exist."""

    def start(
        self,
        version: Version,
        admission: Admission,
        end: float,
        progress: Callable[[str], None],
    ) -> None:
        """Start what is missing and wait until each replica serves.

        Raises:
            DeploymentError, GaveUpError: A part does not come up; the message says why.
        """

    def remove(self, version: Version, but: frozenset[str] = frozenset()) -> None:
        """Stop all parts of a version but those that are named.

        Raises:
            DeploymentError: The platform is out of reach.
        """

    def runs(self, version: Version) -> bool:
        """Say whether a recorded version's addresses are of this platform."""


def need_a_replica(replicas: int) -> None:
    """Refuse a version without any."""
    if replicas < 1:
        raise DeploymentError("A version needs at least one replica.")


def planned_version(spec: VersionSpec, replicas: tuple[Replica, ...]) -> Version:
    """Return a version that is to start at these addresses."""
    return Version(
        model=spec.model,
        version=spec.version,
        digest=spec.digest,
        folder=spec.folder.absolute(),
        served_name=names.served_name(spec.model, spec.version, spec.digest),
        max_model_len=spec.max_model_len,
        dtype=spec.dtype,
        replicas=replicas,
        cache=spec.cache,
        form=spec.form,
    )


def with_terms(store: PointerStore, known: Version, spec: VersionSpec) -> Version:
    """Record other terms or another form; the gateway reads them, no replica has to end."""
    wanted = replace(known, cache=spec.cache, form=spec.form)
    return known if known == wanted else store.record_version(wanted)


def all_answer(version: Version) -> bool:
    """Say whether each replica serves the version's own name."""
    return answering(version) == len(version.replicas)
