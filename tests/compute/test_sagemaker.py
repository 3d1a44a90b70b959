"""Training jobs end to end: the real client, the real container command, the real training."""

import os
import signal
from pathlib import Path
from typing import Any

import boto3
import pytest

from ftdm_assets.compute.chosen import operator_of
from ftdm_assets.compute.job import Phase
from ftdm_assets.compute.jobs import Jobs
from ftdm_assets.compute_settings import ComputeSettings
from tests.compute.conftest import BUCKET
from tests.compute.running import Outcome, adapter_bytes, materialize, settings, thirty_rows, when
from tests.compute.sagemaker_server import RunningJob, SageMakerServer

# Each container imports torch anew; beside other load that alone may take minutes.
pytestmark = pytest.mark.timeout(900)
IMAGE = f"{'1' * 12}.dkr.ecr.eu-west-1.amazonaws.com/steps@sha256:{'a' * 64}"


def compute(**changes: Any) -> ComputeSettings:
    job = {
        "image": IMAGE,
        "role": f"arn:aws:iam::{'1' * 12}:role/training",
        "bucket": f"s3://{BUCKET}/ftdm",
        "instance_type": "ml.g6e.2xlarge",
        "poll_seconds": 0.1,
        "patience_minutes": 0.2,
    }
    return ComputeSettings.model_validate({"kind": "sagemaker", "sagemaker": job | changes})


def jobs_of(server: SageMakerServer, instance: str) -> dict[str, RunningJob]:
    return {
        name: job
        for name, job in server.jobs.items()
        if job.request["ResourceConfig"]["InstanceType"] == instance
    }


@pytest.fixture(scope="module")
def unbroken(
    sagemaker: SageMakerServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Outcome]]:
    """A training whose connection is lost twice: the create answer is cut, then nothing answers."""
    folder = tmp_path_factory.mktemp("unbroken")
    config = settings(tiny_model, thirty_rows(folder), folder / "result")
    sagemaker.cut["CreateTrainingJob"] = 1

    def lose() -> None:
        sagemaker.cut["DescribeTrainingJob"] = 10**6

    watching = when(lambda: bool(sagemaker.jobs), lose)
    impatient = compute(patience_minutes=0.005)
    outcomes = [materialize(impatient, config, folder)]
    watching.join()
    sagemaker.cut.clear()
    outcomes.append(materialize(compute(), config, folder))
    return folder / "result", outcomes


def test_a_lost_connection_does_not_start_a_second_job(
    sagemaker: SageMakerServer, unbroken: tuple[Path, list[Outcome]]
) -> None:
    _, (lost, joined) = unbroken
    assert (lost.success, joined.success) == (False, True)
    assert "a job that was started runs on, and the next run joins it" in lost.error
    assert sagemaker.calls["CreateTrainingJob"] >= 2  # the cut answer was asked for again
    assert list(jobs_of(sagemaker, "ml.g6e.2xlarge")) == [joined.facts["job"]]
    assert any("joined, no second one is started" in line for line in joined.lines)
    assert sagemaker.jobs[joined.facts["job"]].runs == 1
    assert any("0.0 MB uploaded" in line for line in joined.lines)


def test_a_job_s_log_output_and_bill_come_back(
    sagemaker: SageMakerServer, unbroken: tuple[Path, list[Outcome]]
) -> None:
    output, (_, joined) = unbroken
    assert sorted(adapter_bytes(output)) == ["adapter_config.json", "adapter_model.safetensors"]
    assert any("step 48 of 48: loss" in line for line in joined.lines)
    assert any("Completed" in line for line in joined.lines)
    job = sagemaker.jobs[joined.facts["job"]]
    assert joined.facts["billable_seconds"] == round(job.seconds)
    assert joined.facts["image"] == IMAGE.rpartition("/")[2]
    assert not [fact for fact in joined.facts.values() if "1" * 12 in str(fact)]  # the account
    tags = {tag["Key"]: tag["Value"] for tag in job.request["Tags"]}
    assert tags["ftdm/model"] == "my_model"
    assert tags["dagster/run-id"]
    assert all(len(value) <= 512 for value in job.request["Environment"].values())
    left = (
        boto3.session.Session()
        .client("s3")
        .list_objects_v2(Bucket=BUCKET, Prefix="ftdm/checkpoints/")
    )
    assert "Contents" not in left


def test_a_spot_interruption_goes_on_from_the_checkpoint(
    sagemaker: SageMakerServer,
    unbroken: tuple[Path, list[Outcome]],
    tiny_model: Path,
    rows: Path,
    tmp_path: Path,
) -> None:
    spot, instance = compute(spot=True, instance_type="ml.g6e.4xlarge"), "ml.g6e.4xlarge"

    def checkpoint() -> bool:
        found = jobs_of(sagemaker, instance).values()
        return any(list((job.root / "checkpoints").glob("*/checkpoint-*/whole")) for job in found)

    watching = when(
        checkpoint, lambda: sagemaker.interrupt(next(iter(jobs_of(sagemaker, instance))))
    )
    outcome = materialize(spot, settings(tiny_model, rows, tmp_path / "result"), tmp_path)
    watching.join()
    assert outcome.success
    assert sagemaker.jobs[outcome.facts["job"]].runs == 2
    resumed = [line for line in outcome.lines if "going on from checkpoint-" in line]
    assert len(resumed) == 1
    assert int(resumed[0].rpartition("-")[2]) % 5 == 0
    assert adapter_bytes(tmp_path / "result") == adapter_bytes(unbroken[0])


def test_a_failure_has_the_step_s_own_words_and_the_next_run_is_another_attempt(
    sagemaker: SageMakerServer, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    where = compute(instance_type="ml.g5.xlarge")
    config = settings(tiny_model, rows, tmp_path / "result", epochs=-1)
    for attempt in (1, 2):
        outcome = materialize(where, config, tmp_path)
        name = list(jobs_of(sagemaker, "ml.g5.xlarge"))[-1]
        assert not outcome.success
        assert f"gpu_steps.train failed as SageMaker job {name}: train: error:" in outcome.error
        assert "epochs must be greater than 0, not -1" in outcome.error
        assert name.endswith(f"-{attempt}")
    assert not (tmp_path / "result").exists()


def test_a_cancelled_run_stops_the_job(
    sagemaker: SageMakerServer, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    where = compute(instance_type="ml.p5.4xlarge")
    config = settings(tiny_model, rows, tmp_path / "result", epochs=2000)

    def runs() -> bool:
        return any(job.lines for job in jobs_of(sagemaker, "ml.p5.4xlarge").values())

    watching = when(runs, lambda: os.kill(os.getpid(), signal.SIGINT))
    outcome = materialize(where, config, tmp_path)
    watching.join()
    assert not outcome.success
    assert any("Execution was interrupted" in line for line in outcome.lines)
    assert any("asked SageMaker to stop" in line for line in outcome.lines)
    ((name, job),) = jobs_of(sagemaker, "ml.p5.4xlarge").items()
    assert job.status in {"Stopping", "Stopped"}
    chosen = operator_of(where)
    assert chosen is not None
    # As the next run does, before it starts another.
    settled = Jobs(*chosen, lambda _: None)._settled(name)
    assert settled is not None
    assert (settled.phase, job.status) == (Phase.STOPPED, "Stopped")
    assert job.process is not None
    assert job.process.poll() is not None
