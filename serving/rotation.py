"""Which replicas of each version requests may go to: each is asked for its identity, all the time.

Every replica of every ready version is asked twice a second who it is. One that is dead, slow (no
answer within 0.8 s) or wrong (it names other weights) is out of rotation until it is well. One
that gave a call garbage, or an answer of other weights, is out at once; one that refused a
connection as well.

This runs in each gateway process: only there it is known what a replica has answered, and which
calls wait for one that hangs, or that is stopping: vLLM then takes no connection any more, and does
not answer what it has at work either. Each judges for itself, and no gateway needs another.

Invariants:
- out within 2 s: half a second until it is asked, 0.8 to answer (a gateway that gets no processor
  itself takes longer: it does not trust its own clock then);
- the last replicas that answer for the version stay in rotation, however slow they are or dead they
  seem; those that answer wrongly never do;
- a replica that was taken out comes back only after it has said who it is and completed rightly:
  once, or three times in a row where it had answered garbage;
- a list that cannot be read changes nothing. A version that is not in the list yet is asked at all
  of its replicas; the watch over it begins within a second.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from serving.probe import Probe, Verdict
from serving.versions import Version

_log = logging.getLogger("serving.rotation")
_PERIOD_S, _LIST_EVERY_S, _SOONEST_S = 0.5, 1.0, 0.1
_PROOFS_AFTER_GARBAGE = 3
# Answers that are another's: such a replica is never in rotation, not even as the last one.
_NEVER = frozenset({"wrong", "garbage"})
# Those that may never answer what they have at work.
_HOLDS = ("slow", "dead")

Key = tuple[str, tuple[str, ...]]


@dataclass
class _Seen:
    """What is known of one replica.

    Attributes:
        verdict: The last one.
        rotated: Whether requests may go to it.
        owed: Right completions in a row that it still has to give.
        wake: Set when it is to be asked at once.
    """

    verdict: Verdict = "well"
    rotated: bool = True
    owed: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def owes(self, proofs: int) -> None:
        self.owed = max(self.owed, proofs)
        self.wake.set()


class _Watched:
    """One version, with a task for each replica."""

    def __init__(self, version: Version, rotation: "Rotation") -> None:
        self.version = version
        self.seen = {one.url: _Seen() for one in version.replicas}
        self.hung: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._rotation = rotation
        self._tasks = [asyncio.create_task(self._ask(url)) for url in self.seen]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.hung.cancel()

    def judge(self, url: str, verdict: Verdict) -> None:
        """Take in what is known of a replica now."""
        self.seen[url].verdict = verdict
        self._settle()

    def suspect(self, url: str, verdict: Verdict | None) -> None:
        if url not in self.seen:
            return
        if verdict is not None:
            self.judge(url, verdict)
        self.seen[url].owes(_PROOFS_AFTER_GARBAGE if verdict == "garbage" else 1)

    async def _ask(self, url: str) -> None:
        seen, loop = self.seen[url], asyncio.get_running_loop()
        while True:
            began = loop.time()
            seen.wake.clear()
            try:
                self.judge(url, await self._verdict(url, seen))
            except Exception:  # One answer's trouble must not end the watch.
                _log.exception("%s could not be asked who it is", url)
            await asyncio.sleep(_SOONEST_S)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(began + max(_PERIOD_S, loop.time() - began)):
                    await seen.wake.wait()

    async def _verdict(self, url: str, seen: _Seen) -> Verdict:
        name, probe = self.version.served_name, self._rotation.probe
        verdict = await probe.identity(url, name)
        if verdict != "well":
            return verdict or seen.verdict
        if not seen.owed:
            return "well"
        proof = await probe.completion(url, name)
        if proof == "garbage":
            seen.owed = _PROOFS_AFTER_GARBAGE
            return "garbage"
        if proof == "well":
            seen.owed -= 1
            if not seen.owed:
                return "well"
            seen.wake.set()
        # Being late proves nothing: what it was it stays.
        return seen.verdict

    def _settle(self) -> None:
        for url, reason in self._unfit().items():
            self._note_out(url, reason)
        for url, seen in self.seen.items():
            if not seen.rotated and seen.verdict == "well" and not seen.owed:
                self._note_in(url)

    def _unfit(self) -> dict[str, str]:
        """Return the replicas that may not be in rotation, and why."""
        well = any(one.verdict == "well" and one.rotated for one in self.seen.values())
        return {
            url: one.verdict
            for url, one in self.seen.items()
            if one.verdict in _NEVER or (one.verdict != "well" and well)
        }

    def _note_out(self, url: str, reason: str) -> None:
        seen = self.seen[url]
        if not seen.rotated:
            return
        seen.rotated = False
        seen.owes(1)
        _log.warning("%s: %s is out of rotation: %s", self.version.version, url, reason)
        self._rotation.note_out(self.version, reason)
        if reason in _HOLDS:
            self._rotation.on_hung(url)
            self.hung.set_result(url)
            self.hung = asyncio.get_running_loop().create_future()

    def _note_in(self, url: str) -> None:
        self.seen[url].rotated = True
        _log.warning("%s: %s is in rotation again", self.version.version, url)


class Rotation:
    """The watch over all recorded versions, as long as its task runs."""

    def __init__(self) -> None:
        self._watched: dict[Key, _Watched] = {}
        self._task: asyncio.Task[None] | None = None
        self.on_hung: Callable[[str], None] = lambda _: None
        self.taken_out: Counter[tuple[str, str, str]] = Counter()
        self.probe: Probe

    def start(self, versions: Callable[[], Iterable[Version]]) -> None:
        """Begin to watch.

        Args:
            versions: Tells all that are recorded, without keeping the loop.
        """
        self.probe = Probe()
        self._task = asyncio.create_task(self._run(versions))

    async def close(self) -> None:
        """End the watch."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        watched, self._watched = self._watched, {}
        for one in watched.values():
            await one.close()
        await self.probe.close()

    def fit(self, version: Version) -> list[str]:
        """Return the addresses of a version's replicas that requests may go to."""
        watched = self._watched.get(_key(version))
        if watched is None:
            return [one.url for one in version.replicas]
        return [url for url, seen in watched.seen.items() if seen.rotated]

    def suspect(self, version: Version, url: str, verdict: Verdict | None = None) -> None:
        """Have a replica prove itself at once.

        Args:
            version: The version whose name a caller asked for.
            url: The replica.
            verdict: What a call has found it to be: it is out until it is well. None: it may be.
        """
        watched = self._watched.get(_key(version))
        if watched:
            watched.suspect(url, verdict)

    def hung(self, version: Version) -> asyncio.Future[str] | None:
        """Return what ends, with its address, when the next replica is out that may hold calls.

        None where nobody else could be asked instead.
        """
        watched = self._watched.get(_key(version))
        return watched.hung if watched and len(watched.seen) > 1 else None

    def well(self, version: Version) -> int | None:
        """Return how many replicas of a version are well; None where it is not watched."""
        watched = self._watched.get(_key(version))
        if watched is None:
            return None
        return sum(seen.verdict == "well" and seen.rotated for seen in watched.seen.values())

    def rotated(self) -> dict[tuple[str, str, str], bool]:
        """Return whether each watched replica (model, version, name) is in rotation."""
        return {
            (one.version.model, one.version.version, replica.name): one.seen[replica.url].rotated
            for one in list(self._watched.values())
            for replica in one.version.replicas
        }

    def note_out(self, version: Version, reason: str) -> None:
        """Count a replica that has been taken out."""
        self.taken_out[version.model, version.version, reason] += 1

    async def _run(self, versions: Callable[[], Iterable[Version]]) -> None:
        while True:
            try:
                await self._take(versions())
            except Exception as error:  # The database may be away for a while.
                _log.warning("The list of versions cannot be read: %s", error)
            await asyncio.sleep(_LIST_EVERY_S)

    async def _take(self, versions: Iterable[Version]) -> None:
        wanted = {_key(one): one for one in versions if one.state == "ready" and one.replicas}
        for key in set(self._watched) - set(wanted):
            await self._watched.pop(key).close()
        for key in set(wanted) - set(self._watched):
            self._watched[key] = _Watched(wanted[key], self)


def _key(version: Version) -> Key:
    return version.version, tuple(one.url for one in version.replicas)
