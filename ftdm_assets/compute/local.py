"""Runs a GPU step as a process of this machine, through Dagster Pipes.

The step's configuration is a JSON file, so that the same command can be run by hand. What the step
writes to standard error is kept beside it, and its last words are the error that a person sees
(Dagster's own subprocess client keeps neither).
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._utils import tail_file

from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.files import write_json
from ftdm_assets.quiet import accepted_notices

_STOP_SECONDS = 20


class StepFailedError(ValueError):
    """A GPU step ended with an error; the message holds the step's own words."""


def run_step(
    context: dg.AssetExecutionContext, program: str, config: Mapping[str, Any], work: Path
) -> None:
    """Run ``python -m gpu_steps.PROGRAM`` and wait; its log and metrics appear in the UI.

    Raises:
        StepFailedError: with the step's own error.
    """
    file = work / "steps" / f"{program}-{json_digest(dict(config))[:16]}.json"
    write_json(file, dict(config))
    command = [sys.executable, "-m", f"gpu_steps.{program}", "--config", str(file)]
    context.log.info(f"Runs out of process; by hand: {' '.join(command)}")
    log, messages = file.with_suffix(".log"), file.with_suffix(".messages")
    session = dg.open_pipes_session(
        context=context.op_execution_context,
        context_injector=dg.PipesEnvContextInjector(),
        message_reader=WholeLineReader(str(messages)),
    )
    with accepted_notices(), session as pipes, log.open("wb") as stream:
        environment = {**os.environ, **pipes.get_bootstrap_env_vars()}
        code = _wait(subprocess.Popen(command, env=environment, stdout=stream, stderr=stream))
    if code != 0:
        raise StepFailedError(
            f"gpu_steps.{program} failed: {_last_words(log, code)} (all of it: {log})"
        )


class WholeLineReader(dg.PipesFileMessageReader):
    """Reads the step's messages line by line, whole lines only.

    Dagster's reader takes whatever stands at the end of the file for a line. A message that was
    half written when it looked ended its thread, and with it the live progress.
    """

    def _reader_thread(self, handler: Any, is_resource_complete: threading.Event) -> None:
        held = ""
        for piece in tail_file(self._path, is_resource_complete.is_set):
            held += piece
            if held.endswith("\n"):
                handler.handle_message(json.loads(held))
                held = ""


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the step; if this process is told to stop, the step is stopped first."""
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def _last_words(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code < 0:
        return f"it was killed by signal {-code}; run again, it goes on from its last checkpoint"
    return lines[-1] if lines else f"exit code {code}"
