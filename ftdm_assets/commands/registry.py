"""``ftdm registry pull``: a version comes from the registry to a machine that never made it."""

import re
from pathlib import Path

from ftdm_assets.commands import output
from ftdm_assets.model_folder import load_model
from ftdm_assets.settings import SettingsError

_DIGEST = re.compile(r"[0-9a-f]{64}")


def pull(name: str, digest: str, to: Path, as_json: bool) -> int:
    """Bring the merged model with this digest to a new folder.

    Raises:
        SettingsError: if the model names no repository, or the digest is none.
        HubError: if it is not there, or the Hub refuses or cannot be reached.
    """
    from ftdm_assets.registries import hub_registry

    repository = load_model(name).settings.registry.repository
    if repository is None:
        raise SettingsError(
            f"{name} names no repository; set attributes.registry.repository: ORG/NAME"
        )
    if not _DIGEST.fullmatch(digest):
        raise SettingsError(f"--digest: expected 64 hex digits, found {digest!r}")
    commit = hub_registry.pull(repository, digest, to)
    if as_json:
        told = {"repository": repository, "commit": commit, "digest": digest, "folder": str(to)}
        output.print_json(told)
    else:
        output.say(f"{to} holds {digest} of {repository} at {commit}, verified")
    return output.DONE
