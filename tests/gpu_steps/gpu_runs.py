"""Runs the train step in this process and reads what it left."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import parse
from gpu_steps.reporting import RecordingReporter
from gpu_steps.train import Train, train


class StepCutError(Exception):
    """Stands for whatever ends a run before its time."""


@dataclass
class CuttingReporter:
    """Ends the run at the first report of step `at` or later."""

    at: int

    def log(self, line: str) -> None:
        del line

    def progress(self, text: str, **numbers: float) -> None:
        del text
        if numbers.get("step", 0) >= self.at:
            raise StepCutError


def run(settings: dict[str, Any]) -> dict[str, Any]:
    train(parse(settings, Train, "step.json"), RecordingReporter())
    found: dict[str, Any] = json.loads((Path(settings["output"]) / "result.json").read_text())
    return found


def adapter_bytes(settings: dict[str, Any]) -> dict[str, bytes]:
    folder = Path(settings["output"]) / "adapter"
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def log_of(settings: dict[str, Any]) -> list[dict[str, Any]]:
    text = (Path(settings["output"]) / "train_log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]
