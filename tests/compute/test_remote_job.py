"""Training jobs as data, and what is taken from a bucket: the API's own rules, tampered files."""

import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator

from ftdm_assets.compute import sagemaker_job
from ftdm_assets.compute.chosen import operator_of
from ftdm_assets.compute.job import Job
from ftdm_assets.compute.jobs import Jobs
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import Input, RemoteStep, Staging
from ftdm_assets.compute_settings import ComputeSettings
from ftdm_assets.settings import SettingsError, parse_settings
from gpu_steps import container, sagemaker_entry
from gpu_steps.config import ConfigError
from gpu_steps.environment import IMAGE_VARIABLE
from tests.compute.conftest import BUCKET
from tests.compute.sagemaker_server import SageMakerServer
from tests.compute.test_sagemaker import compute

DEPLOY = Path(__file__).parents[2] / "deploy" / "sagemaker"


def job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        "model": "a_model_with_quite_a_long_name_of_its_own",
        "program": "train",
        "step": "b" * 64,
        "channels": {"step": "s3://b/steps/x/"},
        "output": "s3://b/output",
        "checkpoints": "s3://b/checkpoints/x",
        "environment": {"DAGSTER_PIPES_CONTEXT": "x" * 512},
        "tags": {"dagster/run-id": "1"},
    }
    return Job(**values | changes)


def sagemaker_settings(**changes: Any) -> Any:
    found = compute(**changes).sagemaker
    assert found is not None
    return found


def test_a_request_with_everything_is_what_the_api_takes() -> None:
    settings = sagemaker_settings(
        spot=True,
        max_hours=1.5,
        volume_kms_key="alias/disk",
        output_kms_key="alias/output",
        subnets=["subnet-1"],
        security_groups=["sg-1"],
        network_isolation=True,
        tags={"cost-centre": "7"},
    )
    asked = sagemaker_job.request(job(), settings, 3)
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("CreateTrainingJob").input_shape
    assert ParamValidator().validate(asked, shape).generate_report() == ""
    name = asked["TrainingJobName"]
    assert len(name) <= 63
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert asked["StoppingCondition"] == {
        "MaxRuntimeInSeconds": 5400,
        "MaxWaitTimeInSeconds": 10800,
    }
    assert asked["OutputDataConfig"]["KmsKeyId"] == "alias/output"
    assert asked["ResourceConfig"]["VolumeKmsKeyId"] == "alias/disk"
    assert asked["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert asked["Environment"][IMAGE_VARIABLE] == "sha256:" + "a" * 64


def test_a_name_follows_from_step_machine_and_attempt_alone() -> None:
    settings = sagemaker_settings()
    machine = sagemaker_job.machine(settings)
    name = job().name(machine, 1)
    spot = sagemaker_job.machine(sagemaker_settings(spot=True))
    assert name == job(environment={}, tags={}).name(spot, 1)
    other = sagemaker_job.machine(sagemaker_settings(instance_type="ml.p5.4xlarge"))
    others = [job(step="c" * 64).name(machine, 1), job().name(other, 1), job().name(machine, 2)]
    assert len({name, *others}) == 4


def test_a_variable_that_is_too_long_is_refused_before_aws_is_asked() -> None:
    with pytest.raises(StepFailedError, match="DAGSTER_PIPES_CONTEXT has 513 characters"):
        sagemaker_job.request(
            job(environment={"DAGSTER_PIPES_CONTEXT": "x" * 513}), sagemaker_settings(), 1
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "steps:latest"}, "image"),
        ({"subnets": ["subnet-1"]}, "security_groups"),
        ({"max_wait_hours": 1, "max_hours": 2}, "max_wait_hours"),
    ],
)
def test_wrong_settings_name_the_key(changes: dict[str, Any], said: str) -> None:
    document = compute().model_dump(exclude_none=True)
    document["sagemaker"] |= changes
    wrong = {
        "name": "m",
        "task": {"instruction": "i", "taxonomy": ["a"]},
        "labels": {"path": "l"},
        "golden": {"path": "g"},
        "compute": document,
    }
    with pytest.raises(SettingsError, match=f"attributes.compute.sagemaker.*{said}"):
        parse_settings(wrong, "defs.yaml")


def test_sagemaker_without_its_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="needed"):
        ComputeSettings.model_validate({"kind": "sagemaker"})


def packed(folder: Path, step: str, files: dict[str, bytes], listed: dict[str, bytes]) -> bytes:
    (folder / "model/result").mkdir(parents=True)
    for name, content in listed.items():
        (folder / "model/result" / name).write_bytes(content)
    digests = container.digests(folder / "model/result")
    for name, content in files.items():
        (folder / "model/result" / name).write_bytes(content)
    (folder / "model/digests.json").write_text(json.dumps({"step": step, "files": digests}))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path in (folder / "model").iterdir():
            tar.add(path, path.name)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("step", "files", "said"),
    [
        ("s1", {"a": b"1"}, None),
        ("s2", {"a": b"1"}, "is the output of another step"),
        ("s1", {"a": b"2"}, "a is not what the job has written"),
        ("s1", {"a": b"1", "b": b"3"}, "b is not what the job has written"),
    ],
)
def test_an_output_is_taken_only_if_it_is_what_the_job_has_written(
    sagemaker: SageMakerServer, tmp_path: Path, step: str, files: dict[str, bytes], said: str | None
) -> None:
    del sagemaker
    staging = Staging(f"s3://{BUCKET}/ftdm")
    body = packed(tmp_path / "made", step, files, {"a": b"1"})
    boto3.session.Session().client("s3").put_object(Bucket=BUCKET, Key="ftdm/out", Body=body)
    output = tmp_path / "result"
    if said is None:
        staging.take(staging.url("out"), "s1", output)
        assert (output / "a").read_bytes() == b"1"
        return
    with pytest.raises(StepFailedError, match=said):
        staging.take(staging.url("out"), "s1", output)
    assert not output.exists()


def test_half_an_archive_is_refused(sagemaker: SageMakerServer, tmp_path: Path) -> None:
    del sagemaker
    staging = Staging(f"s3://{BUCKET}/ftdm")
    body = packed(tmp_path / "made", "s1", {}, {"a": bytes(range(256)) * 400})
    boto3.session.Session().client("s3").put_object(Bucket=BUCKET, Key="ftdm/half", Body=body[:200])
    with pytest.raises(StepFailedError, match="cannot be unpacked"):
        staging.take(staging.url("half"), "s1", tmp_path / "result")


def test_a_bucket_that_is_not_there_is_one_sentence(
    sagemaker: SageMakerServer, tmp_path: Path
) -> None:
    del sagemaker
    (tmp_path / "a").write_text("1")
    step = RemoteStep("train", {}, {"train_file": Input.of(tmp_path / "a")})
    with pytest.raises(StepFailedError, match=r"s3://no-such/.*AWS answered NoSuchBucket"):
        Staging("s3://no-such").put_step(step)


def test_the_entry_refuses_bytes_that_the_job_does_not_name(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("one\n")
    step = RemoteStep("train", {"seed": 1}, {"train_file": Input.of(tmp_path / "rows")})
    root = tmp_path / "ml"
    for folder in ("input/config", "input/data/step", "input/data/train_file"):
        (root / folder).mkdir(parents=True)
    (root / "input/config/hyperparameters.json").write_text(json.dumps({"step": step.digest}))
    (root / "input/data/step/step.json").write_bytes(step.document)
    (root / "input/data/train_file/rows").write_text("one\n")
    named = sagemaker_entry.named_step(root)
    assert named == step.digest
    config = container.configuration(container.read_step(root, named), root)
    assert config["train_file"] == str(root / "input/data/train_file/rows")
    assert config["work"] == str(root / "checkpoints")
    (root / "input/data/train_file/rows").write_text("two\n")
    with pytest.raises(ConfigError, match="channel train_file: rows is "):
        container.configuration(container.read_step(root, named), root)
    (root / "input/data/step/step.json").write_bytes(step.document + b" ")
    with pytest.raises(ConfigError, match="somebody has changed it"):
        container.read_step(root, named)


@pytest.mark.parametrize(
    ("base", "code"),
    [
        (f"torch:2.13@sha256:{'a' * 64}", 0),
        (f"host:5000/torch:2.13@sha256:{'a' * 64}", 0),
        ("torch:2.13", 1),
        (f"torch:2.13@sha256:{'a' * 63}", 1),
        ("choose-a-base-image", 1),
    ],
)
def test_the_container_file_refuses_a_base_without_a_digest(base: str, code: int) -> None:
    text = (DEPLOY.parent / "Containerfile").read_text()
    check = text[text.index("RUN printf") :].partition("\nWORKDIR")[0].removeprefix("RUN ")
    done = subprocess.run(["sh", "-c", check], env={"BASE": base, "PATH": os.environ["PATH"]})
    assert done.returncode == code


def test_the_policies_allow_what_is_called_and_no_more() -> None:
    document = json.loads((DEPLOY / "orchestrator-policy.json").read_text())
    actions = {action for one in document["Statement"] for action in one["Action"]}
    assert {f"sagemaker:{name}TrainingJob" for name in ("Create", "Describe", "Stop")} <= actions
    assert {"sagemaker:AddTags", "iam:PassRole", "logs:GetLogEvents"} <= actions
    role = json.loads((DEPLOY / "job-role-policy.json").read_text())
    actions |= {action for one in role["Statement"] for action in one["Action"]}
    assert not [action for action in actions if action.endswith("*")]


def test_a_connection_that_is_refused_is_tried_again_for_a_while(
    sagemaker: SageMakerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    said: list[str] = []
    # One call takes up to three seconds by itself: the client waits between its own three tries.
    chosen = operator_of(compute(patience_minutes=0.1))
    assert chosen is not None
    with pytest.raises(StepFailedError, match="AWS was out of reach for"):
        Jobs(*chosen, said.append)._settled("x")
    assert said
    assert "Could not connect" in said[0]
