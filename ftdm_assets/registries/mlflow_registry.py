"""MLflow as the registry: it counts versions, each bound to one merged model by digest.

Invariants:
* The model is logged as plain files; nothing is pickled, and MLflow loads nothing.
* One digest has one version: registering it again returns the version it has.
* The folder that MLflow keeps is compared by digest after the upload.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# MLflow is chatty and calls home unless told not to, before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# It also prints the address of each run, into the JSON that a command writes.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

_DIGEST_TAG = "ftdm.digest"
RUN_TAG = "dagster.run_id"
_TRAINING_TAG = "ftdm.training_run_id"
_REGISTERED_TAG = "ftdm.registered"


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


def address(named: str | None, home: Path) -> str:
    """Return MLflow's address: that of the settings, else SQLite in the home folder."""
    return named or local_uri(home)


def artifacts_folder(home: Path) -> Path:
    """Return where a local MLflow keeps artifacts."""
    return home / "mlflow" / "artifacts"


@dataclass(frozen=True)
class Registration:
    """What is registered.

    Attributes:
        folder: the merged model.
        digest: its digest; the version is bound to it.
        documents: texts to keep beside it, by file name (the model card).
        dagster_run_id: the run that registers, as a tag on MLflow's run.
        training_run_id: MLflow's run of the training, if that was tracked.
    """

    model: str
    folder: Path
    digest: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    documents: Mapping[str, str]
    dagster_run_id: str
    training_run_id: str = ""


def register(uri: str, artifacts: Path, wanted: Registration) -> Registered:
    """Register a merged model's folder, or return the version that its digest already has.

    Args:
        uri: MLflow's tracking address.
        artifacts: where artifacts go when the address is a local database.
        wanted: what to register.

    Raises:
        RegistryError: if MLflow cannot be reached or refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = open_client(uri)
        known = _find(client, wanted.model, wanted.digest)
        if known is not None:
            return known
        return _log(client, experiment_of(client, wanted.model, artifacts, uri), wanted)
    except MlflowException as error:
        raise RegistryError(
            f"MLflow at {uri.split('@')[-1]} refused: {error.message}; "
            "check attributes.registry and that the server runs"
        ) from error


def open_client(uri: str) -> Any:
    """Return MLflow's client for an address."""
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import mlflow

    # A new version looks its logged model up at the process's own address, not at the client's.
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_of(client: Any, model: str, artifacts: Path, uri: str) -> str:
    """Return the id of a domain model's experiment, made where there is none."""
    existing = client.get_experiment_by_name(model)
    if existing is not None:
        return str(existing.experiment_id)
    location = artifacts.resolve().as_uri() if uri.startswith("sqlite") else None
    return str(client.create_experiment(model, artifact_location=location))


def _log(client: Any, experiment: str, wanted: Registration) -> Registered:
    from mlflow.entities import LoggedModelOutput

    tags = {RUN_TAG: wanted.dagster_run_id, _DIGEST_TAG: wanted.digest, **_training_tag(wanted)}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    try:
        for name, value in wanted.parameters.items():
            client.log_param(run_id, name, value)
        for name, number in wanted.metrics.items():
            client.log_metric(run_id, name, number)
        for name, text in wanted.documents.items():
            client.log_text(run_id, text, name)
        logged = client.create_logged_model(experiment, name=wanted.model, source_run_id=run_id)
        client.log_model_artifacts(logged.model_id, str(wanted.folder))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        number = _new_version(client, wanted, logged.model_id, run_id)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    _tell_training_run(client, wanted, number)
    return _registered(wanted.model, number, run_id)


def _training_tag(wanted: Registration) -> dict[str, str]:
    return {_TRAINING_TAG: wanted.training_run_id} if wanted.training_run_id else {}


def _tell_training_run(client: Any, wanted: Registration, number: int) -> None:
    from mlflow.exceptions import MlflowException

    if wanted.training_run_id:
        # The training may have been tracked at another address: the version's tag names it anyway.
        with contextlib.suppress(MlflowException):
            name = version_name(wanted.model, number)
            client.set_tag(wanted.training_run_id, _REGISTERED_TAG, name)


def _new_version(client: Any, wanted: Registration, model_id: str, run_id: str) -> int:
    if not client.search_registered_models(filter_string=f"name = '{wanted.model}'"):
        client.create_registered_model(wanted.model)
    created = client.create_model_version(
        wanted.model,
        source=f"models:/{model_id}",
        run_id=run_id,
        # A server asks for it; a database does without.
        model_id=model_id,
        tags={**wanted.tags, **_training_tag(wanted), _DIGEST_TAG: wanted.digest},
    )
    client.set_registered_model_alias(wanted.model, "challenger", created.version)
    return int(created.version)


def _registered(model: str, number: int, run_id: str) -> Registered:
    return Registered(version_name(model, number), number, f"models:/{model}/{number}", run_id)


def _find(client: Any, model: str, digest: str) -> Registered | None:
    for found in client.search_model_versions(filter_string=f"name = '{model}'"):
        if found.tags.get(_DIGEST_TAG) == digest and found.status == "READY":
            return _registered(model, int(found.version), found.run_id)
    return None


def set_aliases(uri: str, model: str, current: int, previous: int | None) -> None:
    """Say in the registry what production serves: aliases ``champion`` and ``previous``.

    Raises:
        RegistryError: if MLflow cannot be reached or refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = open_client(uri)
        client.set_registered_model_alias(model, "champion", str(current))
        if previous is not None:
            client.set_registered_model_alias(model, "previous", str(previous))
    except MlflowException as error:
        raise RegistryError(
            f"MLflow at {uri.split('@')[-1]} did not take the aliases of {model}: {error.message}; "
            "production is not affected"
        ) from error
