"""What the pointer's database holds, as plain frozen values, and how a version becomes a row."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

State = Literal["starting", "ready", "asleep", "failed", "stopped"]
# In these a version has programs that run.
UP: tuple[State, ...] = ("starting", "ready", "asleep")
Kind = Literal["promote", "rollback"]


class PointerError(Exception):
    """A move or a name that the pointer's rules refuse; the message says what to do."""


class UnknownModelError(PointerError):
    """Nothing is known under this name."""


@dataclass(frozen=True)
class Replica:
    """One engine: the supervised program's name, its address and its cores (None: all).

    `sleeps` says whether it was started with a sleep mode.
    """

    name: str
    url: str
    port: int
    cores: tuple[int, ...] | None
    sleeps: bool = False


@dataclass(frozen=True)
class CacheTerms:
    """Whether a version's answers may be kept, for how many seconds at most, and for whom.

    Attributes:
        shared: Whether one key's answer is another's; else no key can tell, by `hit` or by time,
            what another has asked.
    """

    enabled: bool = True
    ttl_s: int = 86_400
    shared: bool = True


@dataclass(frozen=True)
class Version:
    """One recorded version and where it runs.

    `form` is what its answers are held to: see `serving.answer_form`.
    """

    model: str
    version: str
    digest: str
    folder: Path
    served_name: str
    max_model_len: int
    dtype: str
    replicas: tuple[Replica, ...] = ()
    state: State = "starting"
    recorded_at: str = ""
    changed_at: str = ""
    cache: CacheTerms = CacheTerms()
    form: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pointer:
    """What production serves, and what is kept warm behind it."""

    model: str
    current: str
    previous: str | None
    moved_at: str


@dataclass(frozen=True)
class Move:
    """One line of the history."""

    number: int
    model: str
    kind: Kind
    from_version: str | None
    to_version: str
    by: str
    reason: str
    at: str


def version_row(version: Version) -> tuple[str | int, ...]:
    """Return the columns of the table `versions`, in its order.

    Raises:
        PointerError: The state is none of `State`.
    """
    if version.state not in get_args(State):
        raise PointerError(f"{version.state!r} is no state of a version.")
    replicas = [asdict(one) for one in version.replicas]
    return (
        *(version.model, version.version, version.digest, str(version.folder)),
        # Of before the gateway sent requests to the replicas itself: a router's address.
        *(version.served_name, version.max_model_len, version.dtype, ""),
        *(json.dumps(replicas), version.state, version.recorded_at, version.changed_at),
        json.dumps(asdict(version.cache)),
        # Unsorted: an object's keys are answered in the order of its schema.
        json.dumps(version.form, ensure_ascii=False),
    )


def version_from(row: tuple[Any, ...]) -> Version:
    """Return the version that a row of the table `versions` describes."""
    replicas = tuple(
        Replica(
            name=one["name"],
            url=one["url"],
            port=one["port"],
            cores=None if one["cores"] is None else tuple(one["cores"]),
            sleeps=one.get("sleeps", False),
        )
        for one in json.loads(row[8])
    )
    cache = CacheTerms(**json.loads(row[12]))
    form = json.loads(row[13])
    fields: list[Any] = [*row[:3], Path(row[3]), *row[4:7], replicas, *row[9:12], cache, form]
    return Version(*fields)
