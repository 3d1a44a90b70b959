"""Finds, starts, follows and stops the job of a training, whichever service runs it.

Invariants:
* One training, one job: a lost answer, a lost connection or the death of this process never leads
  to a second job; the same request meets the one that is there and joins it.
* An attempt that is over and of no use is noted in the bucket before the next one is started, so
  it stays over when the service has forgotten it; its seconds count.
* Whoever stops this process stops the job; a connection that is lost for good does not, and says
  that the job runs on.
* What fails in passing is tried again for ``patience_minutes``, everything else is said at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ftdm_assets.compute.job import Job, Operator, Phase, Seen
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import Staging
from ftdm_assets.patience import OutOfReachError, patiently

T = TypeVar("T")
_ATTEMPTS = 50
_INTERRUPTIONS = 10
_STOP_SECONDS = 20


@dataclass
class Jobs:
    """The job of a training: its attempts, the present one by name, and what the others took."""

    operator: Operator
    staging: Staging
    say: Callable[[str], None]
    name: str = ""
    attempt: int = 0
    earlier_seconds: float = 0
    _seconds: float | None = None

    def run(self, job: Job, look: Callable[[], None]) -> Seen:
        """Return what is said of the job once it has completed; ``look`` is called meanwhile.

        A job whose machine is taken away goes on as the next attempt.

        Raises:
            StepFailedError: it failed, was stopped by somebody else, or is out of reach.
        """
        for _ in range(_INTERRUPTIONS):
            ended = self._run_once(job, look)
            if ended.phase is Phase.COMPLETED:
                return ended
            self.note(ended)
            if not ended.interrupted:
                break
            self.say(f"{self.name} was interrupted ({ended.reason}); going on as another attempt")
        raise StepFailedError(
            f"gpu_steps.{job.program} {ended.phase.value} as {self.operator.noun} {self.name}: "
            f"{ended.reason}"
        )

    def stop(self) -> None:
        """Stop the job; what cannot be stopped is said."""
        if not self.name:
            return
        try:
            self._patiently(
                f"stopping {self.name}", lambda: self.operator.stop(self.name), _STOP_SECONDS
            )
            self.say(f"asked {self.operator.noun.partition(' ')[0]} to stop {self.name}")
            if self._seconds is not None:  # A service that forgets a job tells nobody later.
                self.note(Seen(Phase.STOPPED, "stopped", "cancelled", seconds=self._seconds))
        except StepFailedError as error:
            self.say(
                f"the job could not be stopped: {error}; look at it in {self.operator.console}"
            )

    def note(self, ended: Seen) -> None:
        """Note in the bucket that the present attempt is over and of no use."""
        self._note(self.name, ended)

    def facts(self, ended: Seen) -> dict[str, Any]:
        """Return what the manifest keeps; the seconds are those of all attempts."""
        found = {"job": self.name, "attempt": self.attempt, **ended.facts}
        if ended.seconds is not None:
            found["billable_seconds"] = round(ended.seconds + self.earlier_seconds, 1)
        return found

    def _run_once(self, job: Job, look: Callable[[], None]) -> Seen:
        try:
            self._find_or_start(job)
            ended = self._followed(look)
        except Exception:
            raise
        except BaseException:  # This process is told to stop.
            self.stop()
            raise
        look()
        return ended

    def _find_or_start(self, job: Job) -> None:
        self.earlier_seconds = 0
        for attempt in range(1, _ATTEMPTS + 1):
            name, self.attempt = self.operator.name(job, attempt), attempt
            found = self._settled(name)
            if found is not None and found.phase is Phase.RUNNING:
                return self._join(name)
            noted = self.staging.read_json(_note_of(self.staging, name))
            if noted is None and found is not None:
                if found.phase is Phase.COMPLETED and self.staging.exists(found.output):
                    return self._join(name)
                noted = self._note(name, found)
            if noted is None:
                return self._start(job, attempt)
            self.earlier_seconds += noted.get("seconds") or 0
        raise StepFailedError(
            f"{_ATTEMPTS} jobs of this very training have failed, the last is {name}; "
            "change its settings, or the image"
        )

    def _note(self, name: str, ended: Seen) -> dict[str, Any]:
        noted = {"phase": ended.phase.value, "reason": ended.reason, "seconds": ended.seconds}
        self.staging.put_json(_note_of(self.staging, name), noted)
        return noted

    def _join(self, name: str) -> None:
        self.name, self._seconds = name, None
        self.say(f"{self.operator.noun} {name} is there already: joined, no second one is started")

    def _settled(self, name: str) -> Seen | None:
        """Look up a job; one that is stopping still writes checkpoints, so it is waited for."""
        while (found := self._seen(name)) is not None:
            if found.phase is not Phase.STOPPING:
                break
            self.say(f"{name} is being stopped; waiting until it has written its checkpoints")
            time.sleep(self.operator.poll_seconds)
        return found

    def _start(self, job: Job, attempt: int) -> None:
        # From here on there may be a job, so a stop has to reach it.
        self.name, self._seconds = (name := self.operator.name(job, attempt)), None
        noun = self.operator.noun
        if self._patiently(f"starting {name}", lambda: self.operator.start(job, attempt)):
            self.say(f"started {noun} {name}")
        else:
            self.say(f"{noun} {name} is there: an answer was lost, or others asked too")

    def _followed(self, look: Callable[[], None]) -> Seen:
        state, known = "", False
        end = time.monotonic() + 60 * self.operator.patience_minutes
        while True:
            found = self._seen(self.name)
            if found is None:
                # A new job may be unknown to the next question for a while.
                if known or time.monotonic() >= end:
                    reason = "it is gone; somebody has deleted it, run again"
                    return Seen(Phase.STOPPED, "gone", reason, seconds=self._seconds)
            else:
                if found.state != state:
                    self.say(f"{self.name}: {found.state}")
                known, state, self._seconds = True, found.state, found.seconds
                if found.ended:
                    return found
            look()
            time.sleep(self.operator.poll_seconds)

    def _seen(self, name: str) -> Seen | None:
        return self._patiently(f"looking up {name}", lambda: self.operator.look_up(name))

    def _patiently(self, what: str, call: Callable[[], T], seconds: float | None = None) -> T:
        """Call again while the service is out of reach, for as long as the settings say."""
        minutes = self.operator.patience_minutes
        try:
            return patiently(
                call,
                passes=self.operator.passes,
                say=lambda text: self.say(f"{what}: {text}; trying again"),
                seconds=60 * minutes if seconds is None else seconds,
                pause=self.operator.poll_seconds,
            )
        except OutOfReachError as error:
            raise StepFailedError(
                f"{what}: {self.operator.service} was out of reach for {minutes:g} minutes "
                f"({error}); a job that was started runs on, and the next run joins it"
            ) from None
        except Exception:
            with self.operator.told(what):
                raise


def _note_of(staging: Staging, name: str) -> str:
    return staging.url("attempts", f"{name}.json")
