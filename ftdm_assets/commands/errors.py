"""Which expected errors end with which exit code; anything else is a bug and shows its trace."""

import sys

from ftdm_assets.commands import output

_USAGE = (
    "ftdm_assets.hub.HubError",
    "ftdm_assets.provenance.keys.SigningKeyError",
    "ftdm_assets.settings.SettingsError",
    "ftdm_assets.records.review.ReviewError",
    "ftdm_assets.sources.files.SourceError",
    "golden.tables.GoldenError",
    "serving.api_keys.ApiKeyError",
    "serving.engine.EngineError",
    "serving.home.HomeError",
    "serving.names.InvalidNameError",
    "serving.private_file.SecretError",
)
_NO = (
    "ftdm_assets.compute.process.StepFailedError",
    "ftdm_assets.graph.evidence.RefusedError",
    "ftdm_assets.graph.reproduction.ReproductionError",
    "ftdm_assets.provenance.hash_chain.ChainError",
    "ftdm_assets.provenance.store.StoreError",
    "ftdm_assets.registries.hub_repo.HubMismatchError",
    "serving.request_log.RequestLogError",
    "serving.versions.PointerError",
)
_UNREACHABLE = (
    "ftdm_assets.hub.HubUnreachableError",
    "ftdm_assets.kms_key.KmsUnreachableError",
    "ftdm_assets.sources.http_json.ServerError",
    "serving.database.DatabaseError",
    "serving.cold.ColdStartError",
    "serving.stack_programs.StackError",
    "serving.supervisord.SupervisionError",
    "serving.platform.DeploymentError",
    "ftdm_assets.registries.mlflow_registry.RegistryError",
)


def exit_code(error: Exception) -> tuple[int | None, str]:
    """Return exit code and message of an expected error; None for one that is not."""
    usage = getattr(error, "format_message", None)
    if usage is not None:
        # Typer's own: its click is a private copy, whose classes have no public name.
        return output.USAGE, str(usage())
    for names, code in (
        (_UNREACHABLE, output.UNREACHABLE),
        (_NO, output.NO),
        (_USAGE, output.USAGE),
    ):
        if isinstance(error, _loaded(names)):
            return code, str(error)
    if isinstance(error, NotADirectoryError | PermissionError | FileNotFoundError):
        return output.USAGE, f"{error.filename}: {error.strerror}"
    return None, ""


def _loaded(names: tuple[str, ...]) -> tuple[type[BaseException], ...]:
    """Return those of the classes whose module was imported: no other can have been raised."""
    found = []
    for name in names:
        module, _, cls = name.rpartition(".")
        if module in sys.modules:
            found.append(getattr(sys.modules[module], cls))
    return tuple(found)
