"""The record of a training, in manifest and MLflow, and running it again from that record."""

import json
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from mlflow import MlflowClient

from ftdm_assets.commands import reproduce as command
from ftdm_assets.commands.trace import trace_document
from ftdm_assets.commands.verify import verify
from ftdm_assets.compute_settings import PriceSettings
from ftdm_assets.graph.plan import GraphPlan, Reading
from ftdm_assets.graph.reproduction import ReproductionError
from ftdm_assets.graph.shell import asset_key, reading_of
from ftdm_assets.graph.training_record import read_packages, usage
from ftdm_assets.provenance.statements import Manifest, Verdict
from ftdm_assets.registries.mlflow_registry import local_uri
from gpu_steps.environment import driver_version, image_digest, package_list
from tests.gpu_steps.gpu_graph import VERSION, graph_of, run_graph, run_here
from tests.graph.samples import model_folder

# MLflow's own code uses what SQLAlchemy and others deprecate.
pytestmark = pytest.mark.filterwarnings("ignore")

IMAGE = f"sha256:{'ab' * 32}"


@dataclass(frozen=True)
class Trained:
    """A graph that was run, Dagster's records of it, and the run's id."""

    graph: GraphPlan
    instance: dg.DagsterInstance
    run_id: str

    @property
    def reading(self) -> Reading:
        """Return what it holds now."""
        return reading_of(self.graph)


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    from tests.gpu_steps.gpu_graph import SETTINGS

    folder = tmp_path_factory.mktemp("record")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.local_temp(str(folder)) as made:
        patch.setenv("FTDM_HOME", str(folder / "home"))
        patch.setenv("FTDM_IMAGE_DIGEST", f"registry.example.org/trainer@{IMAGE}")
        patch.setenv("FTDM_SERVING_PYTHON", str(folder / "none"))
        patch.setattr(
            "ftdm_assets.graph.shell.run_step",
            lambda context, compute, model, program, config, work: run_here(program, config),
        )
        graph = graph_of(model_folder(folder / "demo", **SETTINGS), tiny_model)
        yield Trained(graph, made, run_graph(graph, made))


@pytest.fixture
def steps_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command run its steps in this process."""
    monkeypatch.setattr(
        command.CommandTools, "step", lambda self, program, config: run_here(program, config)
    )


def heads(reading: Reading) -> dict[str, str]:
    return {path.name: path.read_text() for path in (reading.store.root / "heads/demo").iterdir()}


def verdicts(reading: Reading) -> list[Verdict]:
    return reading.store.verdicts("demo", "adapter", reading.digest("adapter"))


def test_the_manifest_says_what_the_adapter_was_trained_on(trained: Trained) -> None:
    manifest = trained.reading.manifest("adapter")
    decides, kept = (manifest.facts["environment"][part] for part in ("decides", "recorded"))
    assert decides["seed"] == 7
    assert decides["threads"] >= 1
    assert decides["attention"] == "eager"
    assert decides["dtype"] == "bfloat16"
    assert decides["bitsandbytes"]
    assert decides["deterministic_algorithms"] is False
    assert (decides["gpu"] is None) == (decides["driver"] is None) == (decides["cuda"] is None)
    assert kept["image_digest"] == IMAGE
    listed = read_packages(trained.reading.store, manifest.attachments)
    assert listed == package_list()
    assert f"torch=={decides['torch']}\n" in listed
    assert kept["packages"]["count"] == len(listed.splitlines())
    used = manifest.facts["usage"]
    assert used["cost"] == pytest.approx(used["hours"] * 3600, abs=0.01)
    assert used["currency"] == "EUR"
    assert [(v.check, v.passed) for v in verdicts(trained.reading)] == [
        ("environment_recorded", True)
    ]


def test_nothing_in_it_names_the_machine_or_its_owner(trained: Trained) -> None:
    manifest = trained.reading.manifest("adapter")
    step = trained.reading.store.read_document("step", manifest.attachments["step"]["digest"])
    text = json.dumps([manifest.facts, step])
    for told in (socket.gethostname(), str(Path.home()), str(trained.reading.home), "example.org"):
        assert told not in text
    assert not [value for value in step["settings"].values() if "/" in str(value)]


def test_a_lost_package_list_or_driver_is_said(trained: Trained) -> None:
    from ftdm_assets.graph.training_record import environment_recorded

    manifest = trained.reading.manifest("adapter")
    facts = json.loads(json.dumps(dict(manifest.facts)))
    facts["environment"]["decides"] |= {"gpu": "a GPU", "gpu_capability": "9.0", "driver": None}
    lost = replace(manifest, facts=facts, attachments={})

    class Changed(Reading):
        def manifest(self, asset: str) -> Manifest:
            return lost

    read = trained.reading
    outcome = environment_recorded(Changed(read.model, read.home, read.store))
    assert not outcome.passed
    assert outcome.measured["missing"] == [
        "driver", "cuda", "the list of packages that the digest names"
    ]  # fmt: skip


def test_without_a_price_there_is_no_cost_and_what_is_billed_counts() -> None:
    assert usage(None, 3600.0, {"seconds": 1800.0}) == {"hours": 1.0}
    # An interrupted training took at least what its steps took in all.
    assert usage(None, 60.0, {"seconds": 7200.0}) == {"hours": 2.0}
    job = {"job_name": "demo-1", "billable_seconds": 1800}
    found = usage(PriceSettings(per_hour=2, currency="USD"), 7200.0, {"seconds": 7000.0}, job)
    assert found == {"hours": 2.0, **job, "cost": 1.0, "currency": "USD", "price_per_hour": 2.0}


@pytest.mark.parametrize(
    ("given", "found"),
    [(IMAGE, IMAGE), (f"host:5000/a/b@{IMAGE}", IMAGE), ("host/a:latest", None), ("", None)],
)
def test_of_an_image_s_name_only_the_digest_is_kept(
    given: str, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_IMAGE_DIGEST", given)
    assert image_digest() == found


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19", "535.129.03"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86  Release Build",
            "570.86",
        ),
        ("GCC version: 11.4.0", None),
    ],
)
def test_the_driver_s_version_is_read(text: str, version: str | None) -> None:
    assert driver_version(text) == version


def mlflow_client(trained: Trained) -> MlflowClient:
    return MlflowClient(tracking_uri=local_uri(trained.reading.home))


def mlflow_runs(trained: Trained) -> list[Any]:
    client = mlflow_client(trained)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_mlflow_holds_the_run_and_both_name_each_other(trained: Trained) -> None:
    reading = trained.reading
    manifest = reading.manifest("adapter")
    (run,) = mlflow_runs(trained)
    assert run.info.run_id == manifest.facts["mlflow_run_id"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster.run_id"] == trained.run_id
    assert run.data.tags["dagster.asset"] == "demo/adapter"
    assert run.data.tags["ftdm.adapter"] == manifest.digest
    assert run.data.tags["environment.torch"] == manifest.facts["environment"]["decides"]["torch"]
    assert run.data.params["lora.r"] == "4"
    assert run.data.params["seed"] == "7"
    log = reading.store.read_records("train_log", manifest.attachments["train_log"]["digest"])
    client = mlflow_client(trained)
    for name in ("loss", "learning_rate", "tokens"):
        history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        assert history == {row["step"]: row[name] for row in log}
    assert run.data.metrics["final_loss"] == manifest.facts["final_loss"]
    (used,) = run.inputs.dataset_inputs
    assert json.loads(used.dataset.source) == {"sha256": reading.digest("training_set")}
    assert reading.digest("training_set").startswith(used.dataset.digest)
    event = trained.instance.get_latest_materialization_event(asset_key(trained.graph, "adapter"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    assert shown["mlflow_run_id"].value == run.info.run_id


def test_an_adapter_from_the_store_is_no_second_run(trained: Trained) -> None:
    before = trained.reading.head("adapter")
    run_graph(trained.graph, trained.instance, "adapter")
    assert trained.reading.head("adapter") == before
    assert len(mlflow_runs(trained)) == 1


def test_reproduced_bit_for_bit_by_steps_of_their_own(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, before = trained.reading, heads(trained.reading)
    as_processes = command.CommandTools.step
    shown: list[str] = []
    monkeypatch.setattr(command.CommandTools, "say", lambda self, line: shown.append(line))

    def step(self: command.CommandTools, program: str, config: Mapping[str, Any]) -> None:
        # Training in a process of its own; merging here, to load the libraries once less.
        (as_processes if program == "train" else step_here)(self, program, config)

    def step_here(self: command.CommandTools, program: str, config: Mapping[str, Any]) -> None:
        run_here(program, config)

    monkeypatch.setattr(command.CommandTools, "step", step)
    assert command.reproduce(VERSION, False, False) == 0
    assert f"{VERSION}: reproduced, bit for bit" in capsys.readouterr().out
    assert any("step 12 of 12: loss" in line for line in shown)
    assert heads(reading) == before
    assert not list((reading.home / "work" / "reproduce").iterdir())
    # The statement is bound to the version; trace shows it, verify reads it.
    (found,) = reading.store.reproductions(
        "demo", "registered_version", reading.digest("registered_version")
    )
    assert found.outcome == "bit_for_bit"
    assert found.made == found.recorded == {
        name: reading.digest(name) for name in ("adapter", "merged_model")
    }  # fmt: skip
    (shown_by_trace,) = trace_document(reading.store, VERSION)["reproductions"]
    assert shown_by_trace["outcome"] == "bit_for_bit"
    # This version was registered by hand and is not signed; nothing else is wrong.
    assert verify(VERSION, False, None, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["reproductions"], told["problems"], len(told["unsigned"])) == (1, [], 1)


def forged(trained: Trained, name: str, **settings: Any) -> str:
    """Register a version whose manifest names other settings than its adapter was made with."""
    store, read = trained.reading.store, trained.reading
    adapter = read.manifest("adapter")
    step = store.read_document("step", adapter.attachments["step"]["digest"])
    other = store.put_document("step", {**step, "settings": {**step["settings"], **settings}})
    kept = {**adapter.attachments, "step": {"kind": "step", "digest": other.digest}}
    if not settings:
        del kept["step"]
    made = {"adapter": store.add_manifest(replace(adapter, attachments=kept))}
    for asset in ("merged_model", "eval_scores", "registered_version"):
        manifest = read.manifest(asset)
        inputs = tuple(
            replace(ref, manifest=made.get(ref.asset, ref.manifest)) for ref in manifest.inputs
        )
        facts = {**manifest.facts}
        if asset == "registered_version":
            facts["version"] = name
        made[asset] = store.add_manifest(replace(manifest, inputs=inputs, facts=facts))
    return name


@pytest.mark.usefixtures("steps_here")
def test_another_seed_in_the_manifest_is_told(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    version = forged(trained, "demo-v0002", seed=8)
    assert command.reproduce(version, False, False) == 1
    told = capsys.readouterr().err
    assert "not reproduced; adapter and merged_model came out with other digests" in told
    assert "different now: decides.seed 7 → 8" in told
    assert "the scores could not be compared: No interpreter of the vLLM environment" in told


def engine(folder: Path, answer: str) -> Path:
    """Return what stands for vLLM's Python: an engine with one answer to everything."""
    script = folder / "python"
    program = Path(__file__).with_name("gpu_one_answer.py")
    # vLLM's command line follows; this program reads the port out of it.
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "{answer}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.mark.usefixtures("steps_here")
@pytest.mark.parametrize(
    ("answer", "code", "outcome"),
    [("order_status", 0, "same_scores"), ("nothing", 1, "not_reproduced")],
)
def test_other_digests_are_judged_by_the_scores(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], answer: str, code: int, outcome: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("FTDM_SERVING_PYTHON", str(engine(tmp_path, answer)))
    version = forged(trained, f"demo-v1{code}", epochs=0.2)
    assert command.reproduce(version, False, True) == code
    document = json.loads(capsys.readouterr().out)
    assert document["outcome"] == outcome
    assert document["scores"]["recorded"] == {"correct": 2, "total": 8}
    assert document["scores"]["now"] == {"correct": 0 if code else 2, "total": 8}


@pytest.mark.usefixtures("steps_here")
@pytest.mark.parametrize("asset", ["training_set", "base_model"])
def test_what_is_gone_is_named_before_anything_is_trained(
    trained: Trained, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = trained.reading
    artifact = reading.store._find(reading.manifest(asset).kind, reading.digest(asset))
    monkeypatch.setattr(command.CommandTools, "step", lambda *_: pytest.fail("it trained"))
    aside = artifact.path.with_name("aside")
    artifact.path.rename(aside)
    try:
        with pytest.raises(ReproductionError, match=f"{asset} {artifact.digest} is gone from"):
            command.reproduce(VERSION, False, False)
        # One byte changed is as bad as none there.
        shutil.copytree(aside, artifact.path)
        changed = next(path for path in sorted(artifact.path.rglob("*")) if path.is_file())
        changed.write_bytes(changed.read_bytes().replace(b"a", b"e", 1))
        with pytest.raises(ReproductionError, match="was changed"):
            command.reproduce(VERSION, False, False)
    finally:
        shutil.rmtree(artifact.path, ignore_errors=True)
        aside.rename(artifact.path)


def test_a_version_from_before_is_told(trained: Trained) -> None:
    version = forged(trained, "demo-v0003")
    with pytest.raises(ReproductionError, match="made before the settings of steps were kept"):
        command.reproduce(version, False, False)


def test_a_step_that_fails_says_why_and_leaves_no_statement(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ftdm_assets.compute.process import StepFailedError

    version = forged(trained, "demo-v0004", invented=1)
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    with pytest.raises(StepFailedError, match="unknown key 'invented'"):
        command.reproduce(version, False, True)
    manifests = trained.reading.store.manifests("demo", "registered_version")
    digest = next(m.digest for m in manifests if m.facts["version"] == version)
    assert all(
        one.version != version
        for one in trained.reading.store.reproductions("demo", "registered_version", digest)
    )
