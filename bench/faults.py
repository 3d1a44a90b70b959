"""Parts of a running stack are killed, hung or replaced under load: what fails, how long it takes.

Run as `python -m bench.faults FOLDER [--callers 4] [--seconds 4]`; FOLDER holds a merged model (the
base one: `python -m gpu_steps.prepare_base`). Two real replicas of it are started as production
starts them, in a home of its own that is gone afterwards; nothing vouches for the model, so
admission is left out. A row for each fault: requests around it, failed ones, the longest, seconds
from the fault until the replica was out of rotation, and how long it was out (`-`: it never was; a
gateway that is killed says nothing for a moment).
A gateway that is killed breaks off what it has in flight; whom nobody listened to is not counted.
"""

import argparse
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.kept_alive import Callers
from serving import stack
from serving.deployment import start_version
from serving.engine import HOST, engine_command
from serving.health import free_port, get_text
from serving.stack_programs import CACHE, GATEWAY, Ports
from serving.supervision import Program
from serving.versions import Version
from tests.serving.serving_support import MODEL, VOUCHED, Running, fake_engine, promote, under_load

_START_S, _BACK_S, _SETTLED_S = 600.0, 600.0, 2.0
_QUESTION = "Name a sea."


@dataclass
class Bench:
    """The stack, its one version, and what is done to the first replica of it."""

    running: Running
    version: Version
    callers: int
    seconds: float

    def rotated(self) -> bool:
        """Say whether the gateway sends requests to the first replica."""
        _, metrics = get_text(f"http://{HOST}:{self.running.ports.metrics}/metrics")
        name = re.escape(self.version.replicas[0].name)
        found = re.search(rf'^ftdm_replica_in_rotation\{{.*"{name}".*\}} (\S+)$', metrics, re.M)
        return found is not None and float(found[1]) == 1

    def measure(self, name: str, harm: Callable[[], None], mend: Callable[[], None]) -> None:
        """Do harm under load, mend it, wait until all is as it was, and print a row."""
        with self._load() as load, watched(self.rotated) as seen:
            time.sleep(1.0)
            began = time.monotonic()
            harm()
            time.sleep(max(0.0, began + self.seconds - time.monotonic()))
            mend()
            end = time.monotonic() + _BACK_S
            while not seen.well_for(_SETTLED_S) and time.monotonic() < end:
                time.sleep(0.1)
        heard = [one for one in load.answers if not one.failure.startswith("ConnectError")]
        failed = sum(bool(one.failure) for one in heard)
        longest = max(one.ended - one.began for one in heard)
        cells = f"{len(heard):9} {failed:7} {longest:9.2f}"
        print(f"{name:32} {cells} {seen.until_out(began):>8} {seen.out_for():>9}")
        for why in {one.failure[:300] for one in heard if one.failure}:
            print(f"    {why}")

    def signal(self, name: str, what: signal.Signals) -> Callable[[], None]:
        """Return what sends a program a signal."""
        return lambda: os.kill(self.running.pid(name), what)

    def replaced(self, argv: tuple[str, ...], env: dict[str, str]) -> Callable[[], None]:
        """Return what puts another program in the first replica's place."""
        name = self.version.replicas[0].name
        return lambda: self.running.supervisor.put(Program(name, argv, env))

    def engine(self, served_name: str) -> Callable[[], None]:
        """Return what puts an engine of this name in the first replica's place."""
        one, version = self.version.replicas[0], self.version
        command = engine_command(
            version.folder,
            served_name,
            one.port,
            cores=list(one.cores) if one.cores else None,
            max_model_len=version.max_model_len,
            dtype=version.dtype,
        )
        return self.replaced(command.argv, command.env)

    def babbler(self) -> Callable[[], None]:
        """Return what puts there a server that says who it should be, and answers nonsense."""
        version, port = self.version, self.version.replicas[0].port
        command = fake_engine(
            version.folder,
            version.served_name,
            port,
            cores=None,
            max_model_len=version.max_model_len,
            dtype=version.dtype,
        )
        return self.replaced((*command.argv, "--become", "garbage"), {})

    def _load(self) -> Callers:
        return under_load(self.running, content=_QUESTION, count=self.callers)


@dataclass
class Seen:
    """When a replica was first seen out of rotation, and since when it is back for good."""

    first_out: float | None = None
    back: float = field(default_factory=time.monotonic)

    def take(self, rotated: bool) -> None:
        """Note what is seen now."""
        if not rotated:
            now = time.monotonic()
            self.first_out = now if self.first_out is None else self.first_out
            self.back = now

    def well_for(self, seconds: float) -> bool:
        """Say whether it has been in rotation for so long."""
        return time.monotonic() - self.back > seconds

    def until_out(self, began: float) -> str:
        """Return the seconds from the fault until it was out."""
        return "-" if self.first_out is None else f"{self.first_out - began:.2f}"

    def out_for(self) -> str:
        """Return the seconds from the first time that it was out until it was back for good."""
        return "-" if self.first_out is None else f"{self.back - self.first_out:.2f}"


@contextmanager
def watched(rotated: Callable[[], bool]) -> Iterator[Seen]:
    """Look at a replica fifty times a second."""
    seen, ended = Seen(), threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            seen.take(rotated())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@contextmanager
def real_stack(folder: Path) -> Iterator[tuple[Running, Version]]:
    """Run everything, with two replicas of the model in `folder`."""
    with tempfile.TemporaryDirectory(prefix="ftdm-bench-") as home:
        one = Running(Path(home), Ports(free_port(), free_port(), free_port()))
        try:
            one.up()
            spec = replace(one.spec("v0001"), folder=folder)
            found = start_version(one.home, spec, admission=VOUCHED, timeout_s=_START_S)
            promote(one.home, MODEL, "v0001", by="bench", reason="bench")
            yield one, found.version
        finally:
            stack.down(one.home, ports=one.ports)


def measure_all(bench: Bench) -> None:
    """Print the table."""
    head = f"{'requests':>9} {'failed':>7} {'longest s':>9} {'out in s':>8} {'out for s':>9}"
    print(f"{'':32} {head}")
    replica = bench.version.replicas[0].name
    right = bench.engine(bench.version.served_name)
    killed, stopped, goes_on = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT

    def nothing() -> None:
        pass

    # The watch over a version begins within a second of its start.
    while not bench.rotated():
        time.sleep(0.1)

    bench.measure("nothing", nothing, nothing)
    bench.measure("cache killed", bench.signal(CACHE, killed), nothing)
    bench.measure("cache hung", bench.signal(CACHE, stopped), bench.signal(CACHE, goes_on))
    bench.measure("gateway killed", bench.signal(GATEWAY, killed), nothing)
    bench.measure("replica hung", bench.signal(replica, stopped), bench.signal(replica, goes_on))
    bench.measure("replica killed", bench.signal(replica, killed), nothing)
    bench.measure("replica of garbage in its place", bench.babbler(), right)
    bench.measure("replica of another version", bench.engine("other@v0009-000000000000"), right)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults")
    parser.add_argument("folder", type=Path, help="a merged model")
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0, help="that each fault lasts")
    options = parser.parse_args()
    with real_stack(options.folder.absolute()) as (running, version):
        measure_all(Bench(running, version, options.callers, options.seconds))


if __name__ == "__main__":
    main()
