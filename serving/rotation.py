"""Which replicas of each version requests may go to: each is asked for its identity, all the time.

Every replica of every ready version is asked twice a second who it is. One that is dead, slow (no
answer within 0.8 s) or wrong (it names other weights) is taken out of its version's router, and
put back when it is well. Where a call got garbage, or an answer of other weights, from a replica
that the router names, that one is out at once; where it does not, all of the version must prove
themselves with a real completion of one token.

This runs in each gateway process: only there it is known what a replica has answered, and which
calls wait for one that hangs. Why the router's own health checks are not enough: they ask whether
somebody answers, not who, took 5.0 s to leave out a hung replica (limits of 2 s, twice; measured),
and with tighter limits they leave out the last one too, when all are only busy.

Invariants:
- out within 2 s: half a second until it is asked, 0.8 to answer, some milliseconds to take it out
  (a gateway that gets no processor itself takes longer: it does not trust its own clock then);
- the last replicas that answer for the version stay in rotation, however slow they are or dead they
  seem; those that answer wrongly never do;
- a replica that is not in rotation, whoever took it out, comes back only after it has said who it
  is and completed rightly: once, or three times in a row where it had answered garbage. So several
  gateways, on several machines, can do this at once without undoing each other's work;
- a list that cannot be read changes nothing; nor is a router changed that has no such interface, or
  that has found replicas by itself: their verdicts count for metrics and for calls that wait.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from serving.pointer import PointerStore
from serving.probe import Probe, Verdict
from serving.router_control import RouterControl
from serving.versions import Version

_log = logging.getLogger("serving.rotation")
_PERIOD_S, _LIST_EVERY_S, _SOONEST_S = 0.5, 1.0, 0.1
_PROOFS_AFTER_GARBAGE = 3
# Answers that are another's: such a replica is never in rotation, not even as the last one.
_NEVER = frozenset({"wrong", "garbage"})
# Not in the router's list, and not for a reason that this process knows.
_ELSEWHERE = "missing"

Key = tuple[str, str, tuple[str, ...]]


@dataclass
class _Seen:
    """What is known of one replica.

    Attributes:
        verdict: The last one.
        rotated: Whether requests may go to it.
        reason: Why not.
        owed: Right completions in a row that it still has to give.
        wake: Set when it is to be asked at once.
    """

    verdict: Verdict = "well"
    rotated: bool = True
    reason: str = ""
    owed: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def owes(self, proofs: int) -> None:
        self.owed = max(self.owed, proofs)
        self.wake.set()


class _Watched:
    """One version: a task for each replica, and one that has the router follow."""

    def __init__(self, version: Version, rotation: "Rotation") -> None:
        self.version = version
        self.seen = {one.url: _Seen() for one in version.replicas}
        self.hung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rotation = rotation
        self._changed = asyncio.Event()
        self._tasks = [asyncio.create_task(self._ask(url)) for url in self.seen]
        self._tasks.append(asyncio.create_task(self._follow()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.hung.cancel()

    def suspect(self, url: str | None, sure: bool) -> None:
        for one in [url] if url in self.seen else self.seen:
            seen = self.seen[one]
            if sure and one == url:
                seen.verdict = "garbage"
                self._changed.set()
            # In rotation once is enough: what was taken out for garbage owes more already.
            seen.owes(_PROOFS_AFTER_GARBAGE if sure and one == url else 1)

    async def _ask(self, url: str) -> None:
        seen, loop = self.seen[url], asyncio.get_running_loop()
        while True:
            began = loop.time()
            seen.wake.clear()
            verdict = await self._verdict(url, seen)
            if verdict != seen.verdict:
                seen.verdict = verdict
                self._changed.set()
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

    async def _follow(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._settle()
            except Exception:  # One version's trouble must not end the watch over it.
                _log.exception("The rotation of %s could not be settled", self.version.version)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PERIOD_S):
                    await self._changed.wait()

    async def _settle(self) -> None:
        control, router = self._rotation.control, self.version.router_url
        workers = await control.workers(router)
        # One that finds its replicas by itself knows them by other addresses: they are its own.
        if workers and not workers.keys() <= self.seen.keys():
            workers = None
        for url, reason in self._unfit().items():
            if workers and url in workers:
                await control.take_out(router, workers.pop(url))
            self._note_out(url, reason)
        for url, seen in self.seen.items():
            if seen.verdict in _NEVER:
                continue
            if workers is None or url in workers:
                self._note_in(url)
            elif seen.rotated:
                self._note_out(url, _ELSEWHERE)
            elif seen.verdict == "well" and not seen.owed:
                await control.put_back(router, url)

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
        was, seen.rotated, seen.reason = seen.rotated, False, reason
        if not was:
            return
        seen.owes(1)
        if reason == _ELSEWHERE:
            return
        _log.warning("%s: %s is out of rotation: %s", self.version.version, url, reason)
        self._rotation.note_out(self.version, url, reason)
        if reason == "slow":
            self.hung.set_result(None)
            self.hung = asyncio.get_running_loop().create_future()

    def _note_in(self, url: str) -> None:
        seen = self.seen[url]
        if seen.rotated or seen.verdict != "well":
            return
        seen.rotated, seen.reason = True, ""
        _log.warning("%s: %s is in rotation again", self.version.version, url)


class Rotation:
    """The watch over all versions of one home, as long as its task runs."""

    def __init__(self, versions: Callable[[], Iterable[Version]]) -> None:
        """Make it.

        Args:
            versions: Tells all that are recorded; it is called in a thread.
        """
        self._versions = versions
        self._watched: dict[Key, _Watched] = {}
        self._task: asyncio.Task[None] | None = None
        self.on_hung: Callable[[str], None] = lambda _: None
        self.taken_out: Counter[tuple[str, str, str]] = Counter()
        self.probe: Probe
        self.control: RouterControl

    @classmethod
    def of(cls, home: Path) -> "Rotation":
        """Return the watch over what the database of a home holds."""

        def versions() -> list[Version]:
            with PointerStore(home) as store:
                return store.versions()

        return cls(versions)

    def start(self) -> None:
        """Begin to watch."""
        self.probe, self.control = Probe(), RouterControl()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the watch; the routers keep what they have."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        watched, self._watched = self._watched, {}
        for one in watched.values():
            await one.close()
        await self.probe.close()
        await self.control.close()

    def suspect(self, version: Version, url: str | None, *, sure: bool = False) -> None:
        """Have a version's replicas prove themselves at once.

        Args:
            version: The version whose name a caller asked for.
            url: The replica that the router named, if it did; None means all of them.
            sure: Whether its answer named no weights of this version: it is out until it is right.
        """
        watched = self._watched.get(_key(version))
        if watched:
            watched.suspect(url, sure)

    def hung(self, version: Version) -> asyncio.Future[None] | None:
        """Return what ends when the next replica of a version is taken out because it hangs.

        None where nobody else could be asked instead.
        """
        watched = self._watched.get(_key(version))
        return watched.hung if watched and len(watched.seen) > 1 else None

    def rotated(self) -> dict[tuple[str, str], int]:
        """Return how many replicas of each watched version are in rotation."""
        return {
            (one.version.model, one.version.version): sum(
                seen.rotated for seen in one.seen.values()
            )
            for one in list(self._watched.values())
        }

    def note_out(self, version: Version, url: str, reason: str) -> None:
        """Count a replica that has been taken out, and tell those that wait for it."""
        self.taken_out[version.model, version.version, reason] += 1
        if reason == "slow":
            self.on_hung(url)

    async def _run(self) -> None:
        while True:
            try:
                await self._take(await asyncio.to_thread(self._versions))
            except Exception as error:  # The database may be away for a while.
                _log.warning("The list of versions cannot be read: %s", error)
            await asyncio.sleep(_LIST_EVERY_S)

    async def _take(self, versions: Iterable[Version]) -> None:
        wanted = {
            _key(one): one
            for one in versions
            if one.state == "ready" and one.router_url and one.replicas
        }
        for key in set(self._watched) - set(wanted):
            await self._watched.pop(key).close()
        for key in set(wanted) - set(self._watched):
            self._watched[key] = _Watched(wanted[key], self)


def _key(version: Version) -> Key:
    return version.version, version.router_url, tuple(one.url for one in version.replicas)
