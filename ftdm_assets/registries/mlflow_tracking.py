"""MLflow as the record of training runs: parameters, metrics a step, dataset inputs by digest.

Invariants:
* A run is written after its training has ended well, in some seconds, and is closed at once: what
  was refused, failed or killed leaves no run behind. One that a kill cut off while it was written
  is closed when the next is.
* MLflow never costs a training: whatever it does wrong becomes one sentence, in bounded time.
* No process-global state is set beyond MLflow's address, and no secret is written.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.registries.mlflow_registry import RUN_TAG, experiment_of, open_client

MLFLOW_RUN, MLFLOW_URL, MLFLOW_ERROR = "mlflow_run_id", "mlflow_url", "mlflow_error"
_STEP_TAG, _ADAPTER_TAG, _WRITTEN_TAG = "ftdm.step", "ftdm.adapter", "ftdm.written_at"
# MLflow's own: at most 36 characters; the whole digest stands in the source and in a tag.
_DATASET_DIGEST = 36
_METRICS_A_BATCH = 1000
_CONTEXT_TAG = "mlflow.data.context"
_LEFT_OPEN_SECONDS = 3600
_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "15", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_ERROR_TEXT = 400


@dataclass(frozen=True)
class TrainingRun:
    """What is written of one training.

    Attributes:
        asset: the Dagster asset, ``MODEL/adapter``.
        adapter: digest of the adapter.
        started: when the training began, in seconds since 1970.
        parameters: the step's settings; nested ones get dotted names.
        log: one entry a step, at least one: ``step``, ``seconds`` since the start, and numbers.
        metrics: numbers of the whole run.
        datasets: digest of each dataset that it learned from, by name.
        tags: the environment and other digests.
    """

    model: str
    asset: str
    adapter: str
    dagster_run_id: str
    started: float
    parameters: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    datasets: Mapping[str, str]
    tags: Mapping[str, Any]


def track(uri: str, artifacts: Path, run: TrainingRun) -> dict[str, str]:
    """Write a training run to MLflow.

    Args:
        uri: MLflow's tracking address.
        artifacts: where artifacts go when the address is a local database.
        run: what to write.

    Returns:
        Facts for the manifest: MLflow's run id, and its page where MLflow has a web address; or
        under ``mlflow_error`` one sentence that says why there is no run.
    """
    try:
        with _bounded():
            return _track(uri, artifacts, run)
    except Exception as error:  # nothing here is worth a finished training
        told = " ".join(f"{getattr(error, 'message', error)}".split())[:_ERROR_TEXT]
        return {
            MLFLOW_ERROR: f"the training was not tracked, MLflow at {without_secrets(uri)} "
            f"failed: {without_secrets(told)}; check attributes.registry.tracking_uri"
        }


def without_secrets(text: str) -> str:
    """Return a text without the user and password of any address in it."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def _track(uri: str, artifacts: Path, run: TrainingRun) -> dict[str, str]:
    client = open_client(uri)
    experiment = experiment_of(client, run.model, artifacts, uri)
    _close_left_open(client, experiment, run.adapter)
    tags = {
        **{name: str(value) for name, value in run.tags.items() if value is not None},
        RUN_TAG: run.dagster_run_id,
        "dagster.asset": run.asset,
        _STEP_TAG: "train",
        _ADAPTER_TAG: run.adapter,
        _WRITTEN_TAG: str(time.time()),
    }
    name = f"train-{run.adapter[:12]}"
    started = round(run.started * 1000)
    made = client.create_run(experiment, start_time=started, tags=tags, run_name=name)
    run_id = str(made.info.run_id)
    try:
        _write(client, run_id, run)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    found = {MLFLOW_RUN: run_id}
    if uri.startswith(("http://", "https://")):
        page = f"#/experiments/{experiment}/runs/{run_id}"
        found[MLFLOW_URL] = f"{without_secrets(uri).rstrip('/')}/{page}"
    return found


def _write(client: Any, run_id: str, run: TrainingRun) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    parameters = [Param(name, str(value)) for name, value in flat(run.parameters).items()]
    started = round(run.started * 1000)
    metrics = [
        Metric(name, float(value), started + round(1000 * entry["seconds"]), int(entry["step"]))
        for entry in run.log
        for name, value in entry.items()
        if name not in {"step", "seconds"} and isinstance(value, int | float)
    ]
    last = run.log[-1]
    now = round(time.time() * 1000)
    metrics += [
        Metric(name, float(value), now, int(last["step"]))
        for name, value in run.metrics.items()
        if name == "seconds" or name not in last
    ]
    inputs = [
        DatasetInput(
            Dataset(name, digest[:_DATASET_DIGEST], "ftdm", json.dumps({"sha256": digest})),
            [InputTag(_CONTEXT_TAG, "training"), InputTag("ftdm.digest", digest)],
        )
        for name, digest in run.datasets.items()
    ]
    client.log_inputs(run_id, datasets=inputs)
    client.log_batch(run_id, params=parameters)
    for at in range(0, len(metrics), _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics[at : at + _METRICS_A_BATCH])


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names, without those that are null."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}."))
        elif value is not None:
            found[f"{prefix}{name}"] = value
    return found


def _close_left_open(client: Any, experiment: str, adapter: str) -> None:
    """Close runs that a kill cut off while they were written; writing one takes seconds."""
    filtered = f"attributes.status = 'RUNNING' and tags.`{_STEP_TAG}` = 'train'"
    for found in client.search_runs([experiment], filter_string=filtered):
        tags = found.data.tags
        age = time.time() - float(tags.get(_WRITTEN_TAG, 0))
        if age > _LEFT_OPEN_SECONDS or tags.get(_ADAPTER_TAG) == adapter:
            client.set_terminated(found.info.run_id, "KILLED")


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Let MLflow give up within a minute; by itself it tries seven times for two minutes each."""
    ours = {name: value for name, value in _TIMEOUTS.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
