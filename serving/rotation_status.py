"""Which replicas of a version are out of rotation now, and why: asked afresh, for `ftdm status`."""

import asyncio

from serving.probe import Probe, Verdict
from serving.router_control import RouterControl
from serving.versions import Replica, Version

_REASONS: dict[Verdict, str] = {
    "dead": "nobody answers there",
    "slow": "it does not answer in time",
    "wrong": "it serves something else than this version",
    "garbage": "what it answers is no completion of this version",
}
_WELL = "it answers well and is put back within a few seconds, if a gateway runs"


def out_of_rotation(version: Version) -> tuple[str, ...]:
    """Return a sentence for each replica that is out; none where the router does not say."""
    if not version.router_url:
        return ()
    return asyncio.run(_asked(version))


async def _asked(version: Version) -> tuple[str, ...]:
    probe, control = Probe(), RouterControl()
    try:
        workers = await control.workers(version.router_url)
        if workers is None:
            return ()
        out = [one for one in version.replicas if one.url not in workers]
        reasons = await asyncio.gather(*(_reason(probe, one, version.served_name) for one in out))
    finally:
        await probe.close()
        await control.close()
    return tuple(
        f"{one.name} ({one.url}) is out of rotation: {reason}."
        for one, reason in zip(out, reasons, strict=True)
    )


async def _reason(probe: Probe, replica: Replica, served_name: str) -> str:
    verdict = await probe.identity(replica.url, served_name)
    if verdict == "well":
        verdict = await probe.completion(replica.url, served_name)
    return _REASONS.get(verdict or "slow", _WELL)
