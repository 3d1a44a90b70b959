"""Kubernetes Jobs end to end: the real client, the real container command, the real training."""

import json
import os
import signal
from pathlib import Path

import boto3
import pytest
import yaml

from ftdm_assets.compute.chosen import operator_of
from ftdm_assets.compute.jobs import Jobs
from ftdm_assets.compute_settings import ComputeSettings
from tests.compute.conftest import BUCKET
from tests.compute.kubernetes_server import NAMESPACE, ClusterJob, KubernetesServer, Pod
from tests.compute.running import (
    Outcome,
    adapter_bytes,
    materialize,
    settings,
    thirty_rows,
    when,
)

# Each container imports torch anew; beside other load that alone may take minutes.
pytestmark = pytest.mark.timeout(900)
IMAGE = f"registry.example.org/{'1' * 12}/steps@sha256:{'a' * 64}"


def compute(**changes: object) -> ComputeSettings:
    job = {
        "image": IMAGE,
        "bucket": f"s3://{BUCKET}/k8s",
        "context": "here",
        "namespace": NAMESPACE,
        "secrets": ["ftdm-bucket"],
        "poll_seconds": 0.1,
        "patience_minutes": 0.2,
    }
    return ComputeSettings.model_validate({"kind": "kubernetes", "kubernetes": job | changes})


def jobs_on(server: KubernetesServer, node: str) -> dict[str, ClusterJob]:
    """Return the jobs that ask for a node of this name, those that are over too."""
    return {
        name: job
        for name, job in {**server.jobs, **server.over}.items()
        if job.document["spec"]["template"]["spec"].get("nodeSelector", {}).get("n") == node
    }


def pods_on(server: KubernetesServer, node: str) -> list[Pod]:
    return [pod for job in jobs_on(server, node).values() for pod in job.pods]


@pytest.fixture(scope="module")
def unbroken(
    cluster: KubernetesServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Outcome]]:
    """A training whose connection is lost twice: the create answer is cut, then nothing answers."""
    folder = tmp_path_factory.mktemp("unbroken")
    config = settings(tiny_model, thirty_rows(folder), folder / "result")
    cluster.cut["create jobs"] = 1

    def lose() -> None:
        cluster.cut["get jobs"] = 10**6

    watching = when(lambda: bool(cluster.jobs), lose)
    node = {"n": "unbroken"}
    outcomes = [materialize(compute(node_selector=node, patience_minutes=0.005), config, folder)]
    watching.join()
    cluster.cut.clear()
    outcomes.append(materialize(compute(node_selector=node), config, folder))
    return folder / "result", outcomes


def test_a_lost_connection_does_not_start_a_second_job(
    cluster: KubernetesServer, unbroken: tuple[Path, list[Outcome]]
) -> None:
    _, (lost, joined) = unbroken
    assert (lost.success, joined.success) == (False, True)
    assert "a job that was started runs on, and the next run joins it" in lost.error
    assert cluster.calls["create jobs"] >= 2  # the cut answer was asked for again
    assert list(jobs_on(cluster, "unbroken")) == [joined.facts["job"]]
    assert any("joined, no second one is started" in line for line in joined.lines)
    assert len(pods_on(cluster, "unbroken")) == 1
    assert any("0.0 MB uploaded" in line for line in joined.lines)


def test_the_adapter_is_the_one_that_is_made_here_to_the_byte(
    unbroken: tuple[Path, list[Outcome]], trained_here: dict[str, bytes]
) -> None:
    assert adapter_bytes(unbroken[0]) == trained_here


def test_a_job_s_log_and_facts_come_back_and_no_secret_is_in_it(
    cluster: KubernetesServer, unbroken: tuple[Path, list[Outcome]]
) -> None:
    _, (_, joined) = unbroken
    steps = [line for line in joined.lines if "step 48 of 48: loss" in line]
    assert len(steps) == 1
    facts = joined.facts
    assert (facts["attempt"], facts["node"], facts["gpus"]) == (1, "node-1", 1)
    assert facts["image"] == f"steps@sha256:{'a' * 64}"
    assert facts["billable_seconds"] > 0
    document = str(cluster.jobs[facts["job"]].document)
    assert "a-secret-that-stays-here" not in document + "".join(joined.lines)
    assert "a-token-that-stays-here" not in "".join(joined.lines)
    left = boto3.session.Session().client("s3").list_objects_v2(Bucket=BUCKET, Prefix="k8s/check")
    assert "Contents" not in left


def test_a_job_that_the_cluster_has_forgotten_is_not_run_again(
    cluster: KubernetesServer, unbroken: tuple[Path, list[Outcome]], tiny_model: Path, rows: Path
) -> None:
    cluster.expire(unbroken[1][1].facts["job"])
    again = settings(tiny_model, rows, rows.parent / "result")
    where = compute(node_selector={"n": "unbroken"})
    outcome = materialize(where, again, rows.parent)
    assert outcome.success
    assert len(pods_on(cluster, "unbroken")) == 1
    assert adapter_bytes(rows.parent / "result") == adapter_bytes(unbroken[0])


def test_a_damaged_output_is_refused_and_not_taken_again(
    cluster: KubernetesServer, unbroken: tuple[Path, list[Outcome]], tiny_model: Path, rows: Path
) -> None:
    del cluster
    name = unbroken[1][1].facts["job"]
    s3 = boto3.session.Session().client("s3")
    key = f"k8s/output/{name}/result/adapter/adapter_model.safetensors"
    whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=key, Body=whole[:-1])
    where = compute(node_selector={"n": "unbroken"})
    again = settings(tiny_model, rows, rows.parent / "result")
    outcome = materialize(where, again, rows.parent)
    assert "adapter_model.safetensors is not what the job has written; run again" in outcome.error
    assert not (rows.parent / "result").exists()
    noted = s3.get_object(Bucket=BUCKET, Key=f"k8s/attempts/{name}.json")["Body"].read()
    assert json.loads(noted)["phase"] == "failed"


def test_a_pod_that_is_evicted_and_one_that_is_killed_go_on_from_the_checkpoint(
    cluster: KubernetesServer, trained_here: dict[str, bytes], tiny_model: Path, rows: Path
) -> None:
    where = compute(node_selector={"n": "spot"})
    s3 = boto3.session.Session().client("s3")

    def kept() -> bool:
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix="k8s/checkpoints/").get("Contents", ())
        return any(one["Key"].endswith("/whole") for one in found)

    def evict_and_kill() -> None:
        first = pods_on(cluster, "spot")[0]
        cluster.evict(first)
        second = when(
            lambda: len(pods_on(cluster, "spot")) == 2 and kept(),
            lambda: cluster.kill(pods_on(cluster, "spot")[1]),
        )
        second.join()

    watching = when(lambda: bool(pods_on(cluster, "spot")), evict_and_kill)
    outcome = materialize(where, settings(tiny_model, rows, rows.parent / "result"), rows.parent)
    watching.join()
    assert outcome.success, outcome.error
    assert [len(job.pods) for job in jobs_on(cluster, "spot").values()] == [2, 1]
    assert (outcome.facts["attempt"], outcome.facts["pods"]) == (2, 1)
    assert any("was interrupted (exit code 137" in line for line in outcome.lines)
    resumed = [line for line in outcome.lines if "going on from checkpoint-" in line]
    assert len(resumed) == 1
    assert int(resumed[0].rpartition("-")[2]) % 5 == 0
    assert adapter_bytes(rows.parent / "result") == trained_here
    first, second = (pod.container for pod in pods_on(cluster, "spot")[1:])
    held = [(one.ended or one.started) - one.started for one in (first, second)]
    assert outcome.facts["billable_seconds"] >= sum(one.total_seconds() for one in held) - 0.2


def test_a_failure_has_the_step_s_own_words_and_the_next_run_is_another_attempt(
    cluster: KubernetesServer, tiny_model: Path, rows: Path
) -> None:
    where = compute(node_selector={"n": "wrong"})
    config = settings(tiny_model, rows, rows.parent / "result", epochs=-1)
    for attempt in (1, 2):
        outcome = materialize(where, config, rows.parent)
        name = list(jobs_on(cluster, "wrong"))[-1]
        assert not outcome.success
        assert f"gpu_steps.train failed as Kubernetes job {name}: train: error:" in outcome.error
        assert "epochs must be greater than 0, not -1" in outcome.error
        assert name.endswith(f"-{attempt}")
    assert not (rows.parent / "result").exists()


def test_a_cancelled_run_deletes_the_job_which_is_waited_for(
    cluster: KubernetesServer, tiny_model: Path, rows: Path
) -> None:
    where = compute(node_selector={"n": "cancelled"})
    config = settings(tiny_model, rows, rows.parent / "result", epochs=2000)

    def runs() -> bool:
        return any(pod.container.lines for pod in pods_on(cluster, "cancelled"))

    watching = when(runs, lambda: os.kill(os.getpid(), signal.SIGINT))
    outcome = materialize(where, config, rows.parent)
    watching.join()
    assert not outcome.success
    assert any("asked Kubernetes to stop" in line for line in outcome.lines)
    ((name, job),) = jobs_on(cluster, "cancelled").items()
    assert job.deleted
    chosen = operator_of(where)
    assert chosen is not None
    # As the next run does, before it starts another.
    assert Jobs(*chosen, lambda _: None)._settled(name) is None
    (pod,) = job.pods
    assert pod.container.process.poll() in {143, -signal.SIGTERM}


def test_the_role_allows_what_was_called_and_no_more(
    cluster: KubernetesServer, unbroken: tuple[Path, list[Outcome]]
) -> None:
    del unbroken
    text = (Path(__file__).parents[2] / "deploy/kubernetes/orchestrator.yaml").read_text()
    role = next(yaml.safe_load_all(text))
    allowed = {
        f"{verb} {resource}"
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {*cluster.calls, "delete jobs"}
