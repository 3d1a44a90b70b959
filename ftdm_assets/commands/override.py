"""``ftdm override``: a person's signed word that the gate passes over one check, for a while."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ftdm_assets.commands import output
from ftdm_assets.home import home, store
from ftdm_assets.model_folder import load_model
from ftdm_assets.provenance.access_log import user
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.lineage import REGISTERED, ancestry, registered
from ftdm_assets.provenance.overrides import Override, add_override
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from ftdm_assets.settings import SettingsError
from ftdm_assets.signing import setting_of, signing_key

_SHORTEST = 8


@dataclass(frozen=True)
class Wanted:
    """What is to be overridden, by whom, why and until when, as given."""

    target: str
    check: str
    by: str
    reason: str
    until: str


def override(wanted: Wanted, as_json: bool) -> int:
    """Sign an override into the store."""
    by, reason = wanted.by.strip(), wanted.reason.strip()
    if not by or not reason:
        raise SettingsError("an override needs a name and a reason; give --by NAME --reason TEXT")
    until = _until(wanted.until)
    asset, _, check = wanted.check.partition(".")
    if not asset or not check:
        raise SettingsError("--check: write ASSET.CHECK, as the gate names it")
    artifacts = store()
    model, digest = _named(artifacts, wanted.target, asset)
    domain = load_model(model)
    _require_overridable(domain, asset, check)
    made = Override(
        asset=asset,
        model=model,
        digest=digest,
        check=check,
        by=by,
        user=user(),
        reason=reason,
        signed_at=now(),
        until=until,
    )
    key = signing_key(setting_of(domain), home())
    stored = add_override(artifacts, made, key)
    if as_json:
        key_id = key.public.key_id
        output.print_json({"statement": made.statement(), "digest": stored, "key_id": key_id})
    else:
        output.say(
            f"{asset}.{check} on {digest[:12]} is overridden by {by} until {until}; every trace "
            f"shows it. `ftdm run {model}` goes on from there"
        )
    return output.DONE


def _require_overridable(domain: Any, asset: str, check: str) -> None:
    from ftdm_assets.graph.build import build_plan

    checks = [one for one in build_plan(domain).checks if one.asset == asset]
    found = next((one for one in checks if one.name == check), None)
    if found is None:
        names = ", ".join(one.name for one in checks) or "none"
        raise SettingsError(f"--check: {asset} has no check {check}; its checks: {names}")
    if not found.overridable:
        raise SettingsError(
            f"--check: {asset}.{check} judges integrity and cannot be overridden; mend what it says"
        )


def _until(text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--until: {text!r} is no date; write it as 2027-01-31") from None
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        # A day counts to its end.
        found += timedelta(days=1)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if found <= datetime.now(UTC):
        raise SettingsError(f"--until: {text} is over already; an override ends in the future")
    return found.isoformat(timespec="microseconds")


def _named(artifacts: ArtifactStore, target: str, asset: str) -> tuple[str, str]:
    """Return model and artifact's digest that a version, or the beginning of a digest, names."""
    if re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},64}}", target):
        found = _with_digest(artifacts, target, asset)
    else:
        found = _in_version(artifacts, target, asset)
    if len(found) == 1:
        return found.pop()
    told = ", ".join(f"{model} {digest[:16]}" for model, digest in sorted(found)) or "none"
    raise StoreError(f"{target} does not name one {asset} in {artifacts.root}: found {told}")


def _with_digest(artifacts: ArtifactStore, target: str, asset: str) -> set[tuple[str, str]]:
    models = [path.name for path in sorted((artifacts.root / "manifests").glob("*"))]
    return {
        (model, manifest.digest)
        for model in models
        for manifest in artifacts.manifests(model, asset)
        if manifest.digest.startswith(target)
    }


def _in_version(artifacts: ArtifactStore, target: str, asset: str) -> set[tuple[str, str]]:
    model = target.rsplit("-v", 1)[0]
    made = registered(artifacts, model, REGISTERED, target)
    if made is None:
        raise StoreError(
            f"{target} is no registered version and no digest (at least {_SHORTEST} digits); a "
            "refusal of the gate names the digest"
        )
    nodes = ancestry(artifacts, model, REGISTERED, made.manifest_digest())
    return {(model, node.manifest.digest) for node in nodes if node.asset == asset}
