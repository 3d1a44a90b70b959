"""Runs a GPU step as a process of this machine, through Dagster Pipes.

Dagster's own subprocess client keeps neither the step's log nor its last words: the process is
ours (``compute.process``), the messages are Dagster's.
"""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._utils import tail_file

from ftdm_assets.compute.process import StepFailedError, StepProcess
from ftdm_assets.quiet import accepted_notices

__all__ = ["StepFailedError", "WholeLineReader", "run_step"]


def run_step(
    context: dg.AssetExecutionContext, program: str, config: Mapping[str, Any], work: Path
) -> None:
    """Run ``python -m gpu_steps.PROGRAM`` and wait; its log and metrics appear in the UI.

    Raises:
        StepFailedError: with the step's own error.
    """
    step = StepProcess.prepared(program, config, work)
    context.log.info(f"Runs out of process; by hand: {step.by_hand}")
    session = dg.open_pipes_session(
        context=context.op_execution_context,
        context_injector=dg.PipesEnvContextInjector(),
        message_reader=WholeLineReader(str(step.file.with_suffix(".messages"))),
    )
    with accepted_notices(), session as pipes:
        step.run(pipes.get_bootstrap_env_vars())


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
