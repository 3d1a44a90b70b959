"""Which replicas of a version are out of rotation now, and why: asked afresh, for `ftdm status`."""

import asyncio

from serving.probe import Probe, Verdict
from serving.versions import Replica, Version

_REASONS: dict[Verdict, str] = {
    "dead": "nobody answers there",
    "slow": "it does not answer in time",
    "wrong": "it serves something else than this version",
    "garbage": "what it answers is no completion of this version",
}


def out_of_rotation(version: Version) -> tuple[str, ...]:
    """Return a sentence for each replica that no gateway would send requests to."""
    return asyncio.run(_asked(version))


async def _asked(version: Version) -> tuple[str, ...]:
    probe = Probe()
    try:
        found = await asyncio.gather(
            *(_reason(probe, one, version.served_name) for one in version.replicas)
        )
    finally:
        await probe.close()
    return tuple(
        f"{one.name} ({one.url}) is out of rotation: {reason}."
        for one, reason in zip(version.replicas, found, strict=True)
        if reason
    )


async def _reason(probe: Probe, replica: Replica, served_name: str) -> str:
    verdict = await probe.identity(replica.url, served_name)
    if verdict == "well":
        verdict = await probe.completion(replica.url, served_name)
        # A queue is no fault.
        verdict = "garbage" if verdict == "garbage" else "well"
    return _REASONS.get(verdict or "well", "")
