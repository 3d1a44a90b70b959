"""Runs an inference engine as a subprocess for as long as a block lasts.

Invariants: the engine and all its children are gone when the block ends, however it ends; an
engine that does not start, or something else on its port, is one sentence with the end of its log.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from gpu_steps import parent
from gpu_steps.config import StepError
from gpu_steps.reporting import Reporter

_POLL_SECONDS = 0.25
_STOP_SECONDS = 15.0
_LOG_TAIL = 1500
_LOG_LINES = 5
_REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Engine:
    """How to start the engine and where it answers; an empty `argv` means that it runs already."""

    argv: tuple[str, ...]
    env: dict[str, str]
    health_url: str
    base_url: str


@dataclass
class RunningEngine:
    """An engine that answered its health check."""

    process: "subprocess.Popen[bytes] | None"
    log: Path
    startup_seconds: float = field(default=0.0)

    def require_alive(self) -> None:
        """Raise StepError with the end of the engine's log when it has exited."""
        if self.process is not None and self.process.poll() is not None:
            code = self.process.returncode
            raise StepError(f"the engine exited with code {code}; its log ends: {_tail(self.log)}")


@contextmanager
def running_engine(
    engine: Engine, log: Path, timeout: float, reporter: Reporter
) -> Iterator[RunningEngine]:
    """Start the engine, wait until it is healthy, stop it when the block ends.

    Raises:
        StepError: it exits, or is not healthy within `timeout` seconds.
    """
    started = time.monotonic()
    if not engine.argv:
        running = RunningEngine(None, log)
        _wait(engine, running, timeout, reporter)
        yield running
        return
    if _healthy(engine.health_url):
        msg = f"something answers at {engine.health_url} already; stop it or choose another port."
        raise StepError(msg)
    running = RunningEngine(_start(engine, log), log)
    try:
        _wait(engine, running, timeout, reporter)
        running.startup_seconds = time.monotonic() - started
        yield running
    finally:
        _stop(running.process)


def _start(engine: Engine, log: Path) -> "subprocess.Popen[bytes]":
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(parent.__file__)), *engine.argv]
    with log.open("wb") as sink:
        return subprocess.Popen(
            command,
            env=os.environ | engine.env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(engine: Engine, running: RunningEngine, timeout: float, reporter: Reporter) -> None:
    started = reported = time.monotonic()
    while not _healthy(engine.health_url):
        running.require_alive()
        now = time.monotonic()
        if now - started > timeout:
            msg = f"the engine was not healthy at {engine.health_url} within {timeout:.0f} s"
            raise StepError(f"{msg}; its log ends: {_tail(running.log)}")
        if now - reported > _REPORT_SECONDS:
            reported = now
            reporter.log(f"waiting for the engine, {now - started:.0f} s so far")
        time.sleep(_POLL_SECONDS)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _stop(process: "subprocess.Popen[bytes] | None") -> None:
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # The whole group once more: an engine's workers may outlive the process that started them.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    if not log.is_file():
        return "(none)"
    lines = log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace").splitlines()
    words = [" ".join(line.split()) for line in lines if line.strip()]
    return f"{' | '.join(words[-_LOG_LINES:]) or '(empty)'} (all of it: {log})"
