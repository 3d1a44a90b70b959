"""How a registered version is sealed, and the check that its seal holds.

Invariants:
* A version is sealed before it is current; a seal that holds is not made again.
* The check's verdict rests on the keys that count: a key revoked later makes it stale, and the gate
  refuses the version until it is signed again.
"""

from ftdm_assets import home as homes
from ftdm_assets import signing
from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading, Tools
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.lineage import REGISTERED, ancestry
from ftdm_assets.provenance.seal import Sealing, seal, seals
from ftdm_assets.provenance.seal_check import SealReport, check_seals, not_signed
from ftdm_assets.provenance.store import StoreError


def seal_version(reading: Reading, tools: Tools, manifest_digest: str) -> None:
    """Sign a registered version, unless a seal of it holds already.

    Raises:
        StoreError: if something that would be signed was changed.
        SigningKeyError: if there is no key to sign with.
    """
    name = reading.model.name
    nodes = ancestry(reading.store, name, REGISTERED, manifest_digest)
    report = check_seals(reading.store, nodes, homes.trust(reading.home))
    if report.key_id and not report.problems:
        tools.say(f"{report.version} is signed by key {report.key_id[:12]} already")
        return
    if tools.decision is None:
        raise StoreError(f"{report.version} is not signed: the gate was not asked about it")
    key = signing.signing_key(signing.setting_of(reading.model), reading.home)
    made = seal(reading.store, Sealing(nodes, tools.decision, now()), key)
    tools.say(
        f"{report.version} is signed by key {key.public.key_id[:12]} (seal {made.digest[:12]})"
    )


def check() -> CheckPlan:
    """Return the check that a registered version is signed."""
    return CheckPlan(
        REGISTERED,
        "signed",
        "A trusted key that was not revoked has signed weights, manifests, evaluation, gate "
        "decision, card and bill of materials.",
        _signed,
        evidence=_evidence,
        overridable=False,
    )


def _report(reading: Reading) -> SealReport:
    digest, _ = reading.head(REGISTERED)
    nodes = ancestry(reading.store, reading.model.name, REGISTERED, digest)
    return check_seals(reading.store, nodes, homes.trust(reading.home))


def _signed(reading: Reading) -> Outcome:
    report = _report(reading)
    if not report.signed:
        return Outcome(False, not_signed(report.version))
    if report.problems or not report.key_id:
        again = f"`ftdm run {reading.model.name} --select {REGISTERED}` signs it again"
        return Outcome(False, "; ".join([*report.problems, again]))
    measured = {"key": report.key_id, "signed_at": report.signed_at}
    return Outcome(True, f"signed by key {report.key_id[:12]} on {report.signed_at[:16]}", measured)


def _evidence(reading: Reading, digest: str) -> str:
    made = _seals_of(reading, digest)
    return json_digest({"trust": homes.trust(reading.home).digest(), "seals": sorted(made)})


def _seals_of(reading: Reading, digest: str) -> list[str]:
    """Return the seals of a registered version, which need not be the newest."""
    manifest_digest, manifest = reading.head(REGISTERED)
    if manifest.digest == digest:
        return seals(reading.store, manifest, manifest_digest)
    for older in reversed(reading.store.manifests(reading.model.name, REGISTERED)):
        if older.digest == digest:
            return seals(reading.store, older, older.manifest_digest())
    return []
