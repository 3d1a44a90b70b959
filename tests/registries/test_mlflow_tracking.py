"""Training runs in a real MLflow server: whole, closed, and never worth a finished training."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from ftdm_assets.provenance.digests import folder_digest
from ftdm_assets.registries.mlflow_registry import Registration, register
from ftdm_assets.registries.mlflow_tracking import (
    MLFLOW_ERROR,
    MLFLOW_RUN,
    MLFLOW_URL,
    TrainingRun,
    flat,
    track,
    without_secrets,
)
from serving.health import free_port

# MLflow's own code uses what SQLAlchemy and others deprecate.
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 700


def training(adapter: str = "a" * 64, **changes: Any) -> TrainingRun:
    """Return a run of so many steps that their metrics need several requests."""
    values: dict[str, Any] = {
        "model": "demo",
        "asset": "demo/adapter",
        "adapter": adapter,
        "dagster_run_id": "run-1",
        "started": time.time() - STEPS,
        "parameters": {"lora": {"r": 4, "upper_layers": None}, "seed": 7},
        "log": [
            {"step": n, "loss": 1 / n, "learning_rate": 0.1, "tokens": 9 * n, "seconds": float(n)}
            for n in range(1, STEPS + 1)
        ],
        "metrics": {"final_loss": 0.5, "tokens": 9 * STEPS, "seconds": float(STEPS)},
        "datasets": {"training_set": "d" * 64},
        "tags": {"environment.gpu": None, "environment.torch": "2"},
        **changes,
    }
    return TrainingRun(**values)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on SQLite."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **quick}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 250
        while not _healthy(uri):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _healthy(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def experiment_id(client: MlflowClient) -> str:
    found = client.get_experiment_by_name("demo")
    assert found is not None
    return str(found.experiment_id)


def test_a_run_is_whole_closed_and_has_a_page(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = track(server, tmp_path, training())
    # Standard output belongs to the command that trains.
    assert capfd.readouterr().out == ""
    assert set(found) == {MLFLOW_RUN, MLFLOW_URL}
    client = MlflowClient(tracking_uri=server)
    run = client.get_run(found[MLFLOW_RUN])
    page = f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert found[MLFLOW_URL] == page
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lora.r": "4", "seed": "7"}
    assert run.data.tags["dagster.run_id"] == "run-1"
    assert "environment.gpu" not in run.data.tags
    history = client.get_metric_history(run.info.run_id, "tokens")
    assert {metric.step: metric.value for metric in history} == {
        n: 9 * n for n in range(1, STEPS + 1)
    }
    # Metrics stand at the time of their step, not at that of the writing.
    times = sorted(metric.timestamp for metric in history)
    assert times[-1] - times[0] == pytest.approx(1000 * (STEPS - 1), abs=2)
    assert run.inputs is not None
    (used,) = run.inputs.dataset_inputs
    assert json.loads(used.dataset.source) == {"sha256": "d" * 64}
    assert {tag.key: tag.value for tag in used.tags}["ftdm.digest"] == "d" * 64


def test_a_run_that_a_kill_left_open_is_closed_by_the_next(server: str, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=server)
    track(server, tmp_path, training("b" * 64))
    experiment = experiment_id(client)

    def left_open(adapter: str, written_at: float) -> str:
        tags = {"ftdm.step": "train", "ftdm.adapter": adapter, "ftdm.written_at": str(written_at)}
        return str(client.create_run(experiment, tags=tags).info.run_id)

    same, old = left_open("c" * 64, time.time()), left_open("d" * 64, time.time() - 7200)
    other, foreign = left_open("e" * 64, time.time()), client.create_run(experiment).info.run_id
    track(server, tmp_path, training("c" * 64))
    states = {run: client.get_run(run).info.status for run in (same, old, other, foreign)}
    # One that another training may be writing just now stays, and so does a person's own.
    assert states == {same: "KILLED", old: "KILLED", other: "RUNNING", foreign: "RUNNING"}


def test_what_mlflow_refuses_half_way_is_closed_as_failed(server: str, tmp_path: Path) -> None:
    adapter = "f" * 64
    found = track(server, tmp_path, training(adapter, parameters={"a name/with: signs?": 1}))
    assert set(found) == {MLFLOW_ERROR}
    client = MlflowClient(tracking_uri=server)
    experiment = experiment_id(client)
    (run,) = client.search_runs([experiment], filter_string=f"tags.`ftdm.adapter` = '{adapter}'")
    assert run.info.status == "FAILED"


def test_registration_and_training_name_each_other(server: str, tmp_path: Path) -> None:
    trained = track(server, tmp_path, training("1" * 64))[MLFLOW_RUN]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    wanted = Registration(
        model="demo", folder=folder, digest=folder_digest(folder), parameters={}, metrics={},
        tags={}, documents={}, dagster_run_id="run-2", training_run_id=trained,
    )  # fmt: skip
    made = register(server, tmp_path / "artifacts", wanted)
    client = MlflowClient(tracking_uri=server, registry_uri=server)
    assert client.get_run(made.run_id).data.tags["ftdm.training_run_id"] == trained
    version = client.get_model_version("demo", str(made.number))
    assert version.tags["ftdm.training_run_id"] == trained
    assert client.get_run(trained).data.tags["ftdm.registered"] == made.version


def test_a_server_that_is_not_there_costs_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    port = free_port()
    found = track(f"http://jane:geheim@127.0.0.1:{port}", tmp_path, training())
    assert set(found) == {MLFLOW_ERROR}
    assert found[MLFLOW_ERROR].startswith(
        f"the training was not tracked, MLflow at http://127.0.0.1:{port} failed: "
    )
    assert "check attributes.registry.tracking_uri" in found[MLFLOW_ERROR]
    assert "geheim" not in found[MLFLOW_ERROR]
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            while True:
                try:
                    asked.append(silent.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setattr(
            "ftdm_assets.registries.mlflow_tracking._TIMEOUTS",
            {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
        )
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
        found = track(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, training())
    assert set(found) == {MLFLOW_ERROR}
    # One try and one more: no call after the first that failed.
    assert len(asked) == 2


@pytest.mark.parametrize("uri", ["sqlite:///{}", "postgresql+psycopg2://joe:pw@127.0.0.1:{}/x"])
def test_a_database_that_cannot_be_had_costs_a_sentence(tmp_path: Path, uri: str) -> None:
    # A folder where the file should be; a port that nothing listens on.
    place = tmp_path if uri.startswith("sqlite") else free_port()
    started = time.monotonic()
    found = track(uri.format(place), tmp_path, training())
    assert "the training was not tracked" in found[MLFLOW_ERROR]
    assert "joe" not in found[MLFLOW_ERROR]
    assert time.monotonic() - started < 60


def test_settings_are_flat_and_addresses_without_secrets() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": None}, "e": [1]}) == {"a.b.c": 1, "e": [1]}
    told = "cannot reach http://jane:pw@host/x and postgresql://joe:pw@db/y"
    assert without_secrets(told) == "cannot reach http://host/x and postgresql://db/y"
