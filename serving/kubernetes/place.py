"""What a version's objects need to know of the cluster; whoever has the settings makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from serving.engine import EngineCommand, command_for


class PodEngine(Protocol):
    """How an engine's command is made; `serving.engine.command_for` unless a test says so."""

    def __call__(
        self,
        folder: Any,
        served_name: str,
        port: int,
        *,
        python: str,
        host: str,
        threads: int,
        max_model_len: int,
        dtype: str,
    ) -> EngineCommand:
        """Return the command for one replica."""
        ...


@dataclass(frozen=True)
class Place:
    """One namespace of one cluster, and how versions run there.

    Attributes:
        namespace: Where the objects are made.
        engine_image: vLLM with our admission.
        home_claim: The volume claim that holds the home: store and trust are read there.
        disk: Room for a pod's own copy of the model.
        engine_pod: Parts of an engine pod's spec: who it is and where it may run.
        resources: What an engine's container takes.
        threads: How many an engine may count with on the CPU.
        startup_s: How long an engine may take to answer for the first time.
        labels: Further labels of every object.
        engine: Makes the engine's command.
    """

    namespace: str
    engine_image: str
    home_claim: str
    disk: str
    engine_pod: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    startup_s: float = 300.0
    labels: Mapping[str, str] = field(default_factory=dict)
    engine: PodEngine = command_for
