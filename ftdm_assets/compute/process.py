"""A GPU step as a process of this machine, with or without Dagster around it.

Invariants: the step's configuration is a JSON file, so that the same command can be run by hand;
what the step writes to standard error is kept beside it, and its last words are the error that a
person sees; whoever waits for the step and is stopped, stops the step first.
"""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.files import write_json
from gpu_steps.parent import stop

_STOP_SECONDS = 20
_LOOK_SECONDS = 0.5


class StepFailedError(ValueError):
    """A GPU step ended with an error; the message holds the step's own words."""


@dataclass(frozen=True)
class StepProcess:
    """``python -m gpu_steps.PROGRAM`` on one configuration file; its log lies beside the file."""

    program: str
    file: Path

    @staticmethod
    def prepared(program: str, config: Mapping[str, Any], work: Path) -> "StepProcess":
        """Write the configuration under ``work`` and return the step that reads it."""
        file = work / "steps" / f"{program}-{json_digest(dict(config))[:16]}.json"
        write_json(file, dict(config))
        return StepProcess(program, file)

    @property
    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", f"gpu_steps.{self.program}", "--config", str(self.file)]

    @property
    def by_hand(self) -> str:
        """Return the command line for a shell."""
        return shlex.join(self.command)

    @property
    def log(self) -> Path:
        """Return the file that keeps what the step writes."""
        return self.file.with_suffix(".log")

    def run(self, variables: Mapping[str, str], heard: Callable[[str], None] | None = None) -> None:
        """Run the step and wait for its end.

        Args:
            variables: environment variables on top of this process's own.
            heard: gets each line that the step writes, while it runs.

        Raises:
            StepFailedError: with the step's own error.
        """
        with self.log.open("wb") as stream:
            environment = {**os.environ, **variables}
            process = subprocess.Popen(self.command, env=environment, stdout=stream, stderr=stream)
            code = _wait(process, _follow(self.log, heard) if heard else None)
        if code != 0:
            raise StepFailedError(
                f"gpu_steps.{self.program} failed: {_last_words(self.log, code)} "
                f"(all of it: {self.log})"
            )


def _wait(process: "subprocess.Popen[bytes]", look: Callable[[], None] | None) -> int:
    """Wait for the step; if this process is told to stop, the step is stopped first."""
    try:
        while look is not None and process.poll() is None:
            look()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
        if look is not None:
            look()
        return process.wait()
    except BaseException:
        stop(process, _STOP_SECONDS)
        raise


def _follow(log: Path, heard: Callable[[str], None]) -> Callable[[], None]:
    """Return what hands on the whole lines that were added to a log since it was last called."""
    read = 0

    def look() -> None:
        nonlocal read
        with log.open("rb") as stream:
            stream.seek(read)
            whole, newline, _ = stream.read().rpartition(b"\n")
        if newline:
            read += len(whole) + 1
            for line in whole.decode(errors="replace").split("\n"):
                heard(line)

    return look


def _last_words(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code < 0:
        return f"it was killed by signal {-code}; run again, it goes on from its last checkpoint"
    return lines[-1] if lines else f"exit code {code}"
