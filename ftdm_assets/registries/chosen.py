"""Which registry: the settings choose, the graph does not know.

MLflow counts the versions where it is one of two; the Hub's commit then carries the same number.
"""

from pathlib import Path

from ftdm_assets.hub import HubError
from ftdm_assets.registries import mlflow_registry
from ftdm_assets.registries.mlflow_registry import Registered, Registration, RegistryError
from ftdm_assets.release_settings import RegistrySettings


def register(settings: RegistrySettings, home: Path, wanted: Registration) -> list[Registered]:
    """Register a merged model; return where it is now, the registry that counts first.

    Raises:
        RegistryError: if a registry refuses or cannot be reached; registering again goes on.
    """
    made: list[Registered] = []
    if settings.kind != "huggingface":
        address = mlflow_registry.address(settings.tracking_uri, home)
        artifacts = mlflow_registry.artifacts_folder(home)
        made.append(mlflow_registry.register(address, artifacts, wanted))
    if settings.repository is not None and settings.kind != "mlflow":
        from ftdm_assets.registries import hub_registry  # the Hub's client is slow to import

        number = made[0].number if made else None
        try:
            made.append(hub_registry.register(settings.repository, wanted, number))
        except HubError as error:
            raise RegistryError(str(error)) from error
    return made


def set_aliases(
    settings: RegistrySettings, home: Path, model: str, current: int, previous: int | None
) -> None:
    """Say in MLflow what production serves; the Hub has no names that move.

    Raises:
        RegistryError: if the registry does not take it.
    """
    if settings.kind != "huggingface":
        address = mlflow_registry.address(settings.tracking_uri, home)
        mlflow_registry.set_aliases(address, model, current, previous)
