"""What the pointer's database holds, as plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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

    @property
    def addresses(self) -> str:
        """Where its replicas are, for people."""
        return ", ".join(one.url for one in self.replicas) or "no address"


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
