"""What a remote job is, and what a service that runs jobs has to be able to do. No I/O.

Invariant: a name follows from the step, the machine and the attempt alone, so whoever asks for the
same training once more meets the job that is already there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from ftdm_assets.provenance.digests import json_digest

# Read by gpu_steps.environment, which cannot be imported without torch.
IMAGE_VARIABLE = "FTDM_IMAGE_DIGEST"
SECONDS = 3600


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        model: the domain model's name.
        program: the step's name in ``gpu_steps``.
        step: digest of the step's configuration and inputs.
        channels: S3 address of each input channel.
        output: S3 address below which each attempt has its output.
        checkpoints: S3 address that checkpoints are kept at; the same for each attempt.
        environment: variables of the container.
        tags: what the job is found by in the operator's console and in the bill.
    """

    model: str
    program: str
    step: str
    channels: Mapping[str, str]
    output: str
    checkpoints: str
    environment: Mapping[str, str]
    tags: Mapping[str, str]

    def name(self, machine: Sequence[Any], attempt: int) -> str:
        """Return a job's name: at most 63 letters, digits and single hyphens between them."""
        model = self.model.replace("_", "-").strip("-")[:24].strip("-")
        digest = json_digest([self.step, *machine])[:20]
        return f"ftdm-{model}-{self.program}-{digest}-{attempt}"


class Phase(Enum):
    """How far a job is; the last three are its ends."""

    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Seen:
    """What a service says of a job.

    Attributes:
        phase: how far it is.
        state: the same in the service's own words.
        reason: why it has ended, in the step's own words where it left some.
        interrupted: it has ended because its machine was taken away, not by its own fault.
        output: S3 address of what a completed job wrote last.
        seconds: what the machine was held for, as far as that is known.
        facts: what the manifest keeps of it.
    """

    phase: Phase
    state: str
    reason: str = ""
    interrupted: bool = False
    output: str = ""
    seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Say whether it is over."""
        return self.phase not in {Phase.RUNNING, Phase.STOPPING}


class Operator(Protocol):
    """A service that runs a container as a job.

    Attributes:
        service: its name where it cannot be reached (``AWS``).
        noun: what it calls a job (``SageMaker job``).
        console: where a person looks at a job.
        poll_seconds: the pause between two looks.
        patience_minutes: how long it may be out of reach.
    """

    service: str
    noun: str
    console: str
    poll_seconds: float
    patience_minutes: float

    def name(self, job: Job, attempt: int) -> str:
        """Return the name of an attempt."""

    def start(self, job: Job, attempt: int) -> bool:
        """Ask for an attempt; return whether it was made, which it is not if it is there."""

    def look_up(self, name: str) -> Seen | None:
        """Say how far a job is; None if there is none."""

    def stop(self, name: str) -> None:
        """Stop a job; one that is over or gone is none to stop."""

    def lines(self, name: str) -> Iterator[str]:
        """Give the lines that have come into a job's log since the last time."""

    def passes(self, error: Exception) -> bool:
        """Say whether an error may pass by itself."""

    def told(self, what: str) -> AbstractContextManager[None]:
        """Turn what the service's client raises into one sentence without a secret in it."""


def without_registry(image: str) -> str:
    """Return an image without its registry, which may be named after an account."""
    return image.rpartition("/")[2]
