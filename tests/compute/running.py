"""A training as an asset, on whichever machine the settings name, and what came of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from ftdm_assets.compute.chosen import run_step
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute_settings import ComputeSettings
from tests.gpu_steps.gpu_tiny import row, train_config, write_lines


@dataclass
class Outcome:
    """What a materialization gave."""

    facts: dict[str, Any]
    error: str
    lines: list[str]
    success: bool = False


def settings(model: Path, rows: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return train_config(model, rows, output) | {"epochs": 6} | changes


def thirty_rows(folder: Path) -> Path:
    return write_lines(folder / "train.jsonl", [row(number) for number in range(30)])


def materialize(where: ComputeSettings, config: dict[str, Any], work: Path) -> Outcome:
    outcome = Outcome({}, "", [])

    @dg.asset
    def adapter(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        try:
            outcome.facts.update(run_step(context, where, "my_model", "train", config, work))
        except StepFailedError as error:
            outcome.error = str(error)
            raise dg.Failure(description=str(error), allow_retries=False) from error
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([adapter], instance=instance, raise_on_error=False)
        outcome.lines = [entry.user_message for entry in instance.all_logs(result.run_id)]
    outcome.success = result.success
    return outcome


def adapter_bytes(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "adapter").iterdir())}


def when(found: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Act in a thread as soon as something is found."""

    def watch() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if found():
                return act()
            time.sleep(0.02)
        return None

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread
