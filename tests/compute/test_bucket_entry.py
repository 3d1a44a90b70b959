"""The container's command where files come through a bucket: what it keeps and what it says."""

from pathlib import Path

import boto3
import pytest

from gpu_steps import bucket_entry
from gpu_steps.bucket import Bucket
from gpu_steps.checkpoint_keeper import CheckpointKeeper
from gpu_steps.checkpoints import mark_whole
from gpu_steps.config import StepError
from tests.compute.conftest import BUCKET


def checkpoint(work: Path, step: int, *, whole: bool) -> None:
    folder = work / "checkpoints-x" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes([step]))
    if whole:
        mark_whole(folder)


def kept(prefix: str) -> list[str]:
    found = boto3.session.Session().client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [one["Key"].removeprefix(f"{prefix}/checkpoints-x/") for one in found["Contents"]]


def test_the_newest_whole_checkpoint_is_kept_and_no_half_one(s3: str, tmp_path: Path) -> None:
    del s3
    with CheckpointKeeper(Bucket(), tmp_path, f"s3://{BUCKET}/keep/"):
        checkpoint(tmp_path, 5, whole=True)
        checkpoint(tmp_path, 10, whole=False)
    assert kept("keep") == ["checkpoint-5/weights", "checkpoint-5/whole"]
    with CheckpointKeeper(Bucket(), tmp_path, f"s3://{BUCKET}/keep/"):
        checkpoint(tmp_path, 15, whole=True)
    assert kept("keep") == ["checkpoint-15/weights", "checkpoint-15/whole"]
    Bucket().download(f"s3://{BUCKET}/keep/", tmp_path / "other")
    here = tmp_path / "checkpoints-x/checkpoint-15/whole"
    there = tmp_path / "other/checkpoints-x/checkpoint-15/whole"
    assert there.read_bytes() == here.read_bytes()


def test_a_bucket_that_is_not_there_is_said_and_the_step_goes_on(
    s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del s3
    with CheckpointKeeper(Bucket(), tmp_path, "s3://no-such/keep/"):
        checkpoint(tmp_path, 5, whole=True)
    said = capsys.readouterr().err
    assert "a checkpoint was not uploaded, the step goes on" in said
    assert said.count("NoSuchBucket") == 1


def test_a_container_without_a_job_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FTDM_JOB", raising=False)
    monkeypatch.setenv("FTDM_FAILURE_FILE", str(tmp_path / "termination-log"))
    monkeypatch.setattr("gpu_steps.container.stop_on_sigterm", lambda: None)
    assert bucket_entry.main() == 1
    assert (tmp_path / "termination-log").read_text().startswith("FTDM_JOB: must hold the job")
    assert "bucket_entry: error: FTDM_JOB" in capsys.readouterr().err


def test_an_object_whose_name_leads_elsewhere_is_refused(s3: str, tmp_path: Path) -> None:
    del s3
    client = boto3.session.Session().client("s3")
    client.put_object(Bucket=BUCKET, Key="evil/../../up", Body=b"")
    with pytest.raises(StepError, match="leads out of its folder"):
        Bucket().download(f"s3://{BUCKET}/evil/", tmp_path / "in")
    assert not (tmp_path / "up").exists()
