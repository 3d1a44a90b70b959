"""MLflow as the registry: it counts versions, each bound to one merged model by digest.

Invariants:
* The model is logged as plain files; nothing is pickled, and MLflow loads nothing.
* One digest has one version: registering it again returns the version it has.
* The folder that MLflow keeps is compared by digest after the upload.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# MLflow is chatty and calls home unless told not to, before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

_DIGEST_TAG = "ftdm.digest"
_RUN_TAG = "dagster.run_id"


class RegistryError(ValueError):
    """The registry refused or could not be reached; the message says what to do."""


@dataclass(frozen=True)
class Registered:
    """A registered version: its number, its name, and where the registry keeps it."""

    version: str
    number: int
    uri: str
    run_id: str


def version_name(model: str, number: int) -> str:
    """Return the name of a version: ``NAME-vNNNN``."""
    return f"{model}-v{number:04d}"


def local_uri(home: Path) -> str:
    """Return the tracking address of the SQLite registry in the home folder."""
    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


def register(
    *,
    uri: str,
    artifacts: Path,
    model: str,
    folder: Path,
    digest: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    documents: Mapping[str, str],
    dagster_run_id: str,
) -> Registered:
    """Register a merged model's folder, or return the version that its digest already has.

    Args:
        uri: MLflow's tracking address.
        artifacts: where artifacts go when the address is a local database.
        folder: the merged model.
        documents: texts to keep beside it, by file name (the model card).

    Raises:
        RegistryError: if MLflow cannot be reached or refuses.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        known = _find(client, model, digest)
        if known is not None:
            return known
        experiment = _experiment(client, model, artifacts, uri)
        run = client.create_run(experiment, tags={_RUN_TAG: dagster_run_id, _DIGEST_TAG: digest})
        return _log(client, run, model, folder, digest, parameters, metrics, tags, documents)
    except MlflowException as error:
        raise RegistryError(
            f"MLflow at {uri.split('@')[-1]} refused: {error.message}; "
            "check attributes.registry and that the server runs"
        ) from error


def _experiment(client: Any, model: str, artifacts: Path, uri: str) -> str:
    existing = client.get_experiment_by_name(model)
    if existing is not None:
        return str(existing.experiment_id)
    location = artifacts.resolve().as_uri() if uri.startswith("sqlite") else None
    return str(client.create_experiment(model, artifact_location=location))


def _log(
    client: Any,
    run: Any,
    model: str,
    folder: Path,
    digest: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    documents: Mapping[str, str],
) -> Registered:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    run_id = run.info.run_id
    try:
        for name, value in parameters.items():
            client.log_param(run_id, name, value)
        for name, number in metrics.items():
            client.log_metric(run_id, name, number)
        for name, text in documents.items():
            client.log_text(run_id, text, name)
        logged = client.create_logged_model(run.info.experiment_id, name=model, source_run_id=run_id)
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        if not _has_model(client, model):
            client.create_registered_model(model)
        created = client.create_model_version(
            model, source=f"models:/{logged.model_id}", run_id=run_id,
            tags={**tags, _DIGEST_TAG: digest},
        )  # fmt: skip
        client.set_registered_model_alias(model, "challenger", created.version)
        client.set_terminated(run_id, "FINISHED")
    except MlflowException:
        client.set_terminated(run_id, "FAILED")
        raise
    number = int(created.version)
    return Registered(version_name(model, number), number, f"models:/{model}/{number}", run_id)


def _has_model(client: Any, model: str) -> bool:
    return bool(client.search_registered_models(filter_string=f"name = '{model}'"))


def _find(client: Any, model: str, digest: str) -> Registered | None:
    for found in client.search_model_versions(filter_string=f"name = '{model}'"):
        if found.tags.get(_DIGEST_TAG) == digest and found.status == "READY":
            number = int(found.version)
            name = version_name(model, number)
            return Registered(name, number, f"models:/{model}/{number}", found.run_id)
    return None


def set_aliases(uri: str, model: str, current: int, previous: int | None) -> None:
    """Say in the registry what production serves: aliases ``champion`` and ``previous``."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.set_registered_model_alias(model, "champion", str(current))
    if previous is not None:
        client.set_registered_model_alias(model, "previous", str(previous))
