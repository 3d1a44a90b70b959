"""Attempts, patience and stops of a job, with a service that is told what to say."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from ftdm_assets.compute.job import Job, Phase, Seen
from ftdm_assets.compute.jobs import Jobs
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.sagemaker_job import seen as seen_by_sagemaker
from ftdm_assets.compute.staging import Staging
from tests.compute.conftest import BUCKET
from tests.compute.test_remote_job import job

RUNS = Seen(Phase.RUNNING, "runs", seconds=1)
TAKEN = Seen(Phase.FAILED, "failed", "its node is gone", interrupted=True, seconds=30)
WRONG = Seen(Phase.FAILED, "failed", "train: error: no", seconds=5)


class AwayError(Exception):
    """The service is away."""


@dataclass
class Service:
    """Answers each question about a job with the next of its states, the last one for ever."""

    said: dict[str, list[Seen | None]]
    service: str = "Cloud"
    noun: str = "Cloud job"
    console: str = "the console"
    poll_seconds: float = 0.01
    patience_minutes: float = 0.02
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    stop_fails: int = 0

    def name(self, job: Job, attempt: int) -> str:
        return f"j{job.step[:1]}-{attempt}"

    def start(self, job: Job, attempt: int) -> bool:
        self.started.append(self.name(job, attempt))
        return True

    def look_up(self, name: str) -> Seen | None:
        if name not in self.started:
            before = self.said.get(f"{name} before", [None])
            return before.pop(0) if len(before) > 1 else before[0]
        states = self.said[name]
        return states.pop(0) if len(states) > 1 else states[0]

    def stop(self, name: str) -> None:
        if self.stop_fails:
            self.stop_fails -= 1
            raise AwayError("away")
        self.stopped.append(name)

    def lines(self, name: str) -> Iterator[str]:
        del name
        return iter(())

    def passes(self, error: Exception) -> bool:
        return isinstance(error, AwayError)

    def told(self, what: str) -> nullcontext[None]:
        del what
        return nullcontext()


@pytest.fixture
def jobs(s3: str, request: pytest.FixtureRequest) -> Callable[[Service], Jobs]:
    """Makes the jobs of a service, with a place in the bucket for each test."""
    del s3
    return lambda service: Jobs(service, Staging(f"s3://{BUCKET}/{request.node.name}"), print)


def done(jobs: Jobs, name: str) -> Seen:
    """A completed job whose output is there."""
    url = jobs.staging.url("output", name)
    jobs.staging.put_json(url, {})
    return Seen(Phase.COMPLETED, "done", output=url, seconds=100)


def test_an_interrupted_job_goes_on_as_the_next_attempt_and_all_seconds_count(
    jobs: Callable[[Service], Jobs],
) -> None:
    service = Service({"jb-1": [RUNS, TAKEN], "jb-2": [RUNS, TAKEN], "jb-3": []})
    found = jobs(service)
    service.said["jb-3"] = [None, RUNS, done(found, "jb-3")]
    ended = found.run(job(), lambda: None)
    assert service.started == ["jb-1", "jb-2", "jb-3"]
    assert found.facts(ended) == {"job": "jb-3", "attempt": 3, "billable_seconds": 160.0}


def test_a_failed_attempt_stays_over_when_the_service_has_forgotten_it(
    jobs: Callable[[Service], Jobs],
) -> None:
    service = Service({"jb-1": [RUNS, WRONG]})
    with pytest.raises(StepFailedError, match="failed as Cloud job jb-1: train: error: no"):
        jobs(service).run(job(), lambda: None)
    later = Service({"jb-2": [RUNS, WRONG]})  # It knows nothing of the first attempt.
    found = jobs(later)
    with pytest.raises(StepFailedError, match="jb-2"):
        found.run(job(), lambda: None)
    assert later.started == ["jb-2"]
    assert found.earlier_seconds == 5


def test_a_completed_job_without_its_output_is_made_again(jobs: Callable[[Service], Jobs]) -> None:
    lost = Seen(Phase.COMPLETED, "done", output="s3://training/nowhere", seconds=7)
    service = Service({"jb-1 before": [lost]})
    found = jobs(service)
    service.said["jb-2"] = [done(found, "jb-2")]
    ended = found.run(job(), lambda: None)
    assert service.started == ["jb-2"]
    assert found.facts(ended)["billable_seconds"] == 107.0


def test_a_job_that_somebody_deletes_is_said(jobs: Callable[[Service], Jobs]) -> None:
    service = Service({"jb-1": [RUNS, None]})
    with pytest.raises(StepFailedError, match="stopped as Cloud job jb-1: it is gone"):
        jobs(service).run(job(), lambda: None)


def test_a_job_that_never_appears_is_waited_for_as_long_as_the_settings_say(
    jobs: Callable[[Service], Jobs],
) -> None:
    service = Service({"jb-1": [None]})
    with pytest.raises(StepFailedError, match="it is gone"):
        jobs(service).run(job(), lambda: None)
    assert service.started == ["jb-1"]


def test_a_stop_is_asked_for_again_while_the_service_is_away(
    jobs: Callable[[Service], Jobs],
) -> None:
    service = Service({"jb-1": [RUNS]}, stop_fails=3)
    found = jobs(service)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.run(job(), interrupt)
    assert service.stopped == ["jb-1"]
    noted = found.staging.read_json(found.staging.url("attempts", "jb-1.json"))
    assert noted == {"phase": "stopped", "reason": "cancelled", "seconds": 1}


@pytest.mark.parametrize(
    ("secondary", "setting"),
    [("MaxRuntimeExceeded", "max_hours"), ("MaxWaitTimeExceeded", "max_wait_hours")],
)
def test_a_training_job_that_ran_out_of_time_names_the_setting(
    secondary: str, setting: str
) -> None:
    ended = seen_by_sagemaker(
        {
            "TrainingJobStatus": "Stopped",
            "SecondaryStatus": secondary,
            "ResourceConfig": {"InstanceType": "ml.g5.xlarge"},
            "AlgorithmSpecification": {"TrainingImage": "a/b@sha256:0"},
            "BillableTimeInSeconds": 60,
        }
    )
    assert (ended.phase, ended.seconds) == (Phase.STOPPED, 60)
    assert f"compute.sagemaker.{setting};" in ended.reason
