"""Live progress of a run: reads Dagster's events as they come and says what a person wants to know.

In a terminal a moving line shows the step at work; elsewhere each event is one plain line.
"""

import threading
import uuid
from contextlib import suppress
from typing import Any

import dagster as dg
from rich.status import Status

from ftdm_assets.commands import output

_POLL_SECONDS = 0.5


class Watch:
    """Follows one run from a thread of its own; ``seconds`` holds each asset's time."""

    def __init__(self, instance: dg.DagsterInstance, model: str, *, quiet: bool) -> None:
        self.run_id = str(uuid.uuid4())
        self.seconds: dict[str, float] = {}
        self._instance, self._model, self._quiet = instance, model, quiet
        self._cursor: str | None = None
        self._started: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._console = output.console()
        self._status = Status("starting", console=self._console)
        self._moving = self._console.is_terminal and not quiet

    def __enter__(self) -> "Watch":
        if self._moving:
            self._status.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=10)
        if self._moving:
            self._status.stop()

    def _follow(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            self._read()
        self._read()

    def _read(self) -> None:
        # The run's record may not be there yet; the next look finds it.
        with suppress(dg.DagsterRunNotFoundError):
            while True:
                page = self._instance.get_records_for_run(self.run_id, cursor=self._cursor)
                for record in page.records:
                    self._tell(record.event_log_entry)
                self._cursor = page.cursor
                if not page.has_more:
                    return

    def _tell(self, entry: Any) -> None:
        event = entry.dagster_event
        asset = _asset(entry.step_key, self._model)
        if event is None:
            if entry.level >= 20 and asset and not _is_noise(entry.user_message):
                self._line(f"  {asset}: {entry.user_message}", moving=True)
            return
        kind = event.event_type_value
        if kind == "STEP_START":
            self._started[entry.step_key] = entry.timestamp
            self._move(asset)
        elif kind == "ASSET_MATERIALIZATION":
            self._materialised(entry, event)
        elif kind == "ASSET_CHECK_EVALUATION":
            self._judged(event.asset_check_evaluation_data)

    def _materialised(self, entry: Any, event: Any) -> None:
        name = event.asset_key.path[-1]
        seconds = entry.timestamp - self._started.get(entry.step_key, entry.timestamp)
        self.seconds[name] = seconds
        tags = event.step_materialization_data.materialization.tags or {}
        digest = str(tags.get("dagster/data_version", ""))[:12]
        self._line(f"[green]✓[/green] {name} {digest} ({seconds:.1f} s)", markup=True)

    def _judged(self, evaluation: Any) -> None:
        warn = evaluation.severity == dg.AssetCheckSeverity.WARN
        if evaluation.passed:
            mark = "[green]✓[/green]"
        else:
            mark = "[yellow]![/yellow]" if warn else "[red]✗[/red]"
        reason = str(evaluation.description or "").replace("[", "\\[")
        self._line(f"  {mark} {evaluation.check_name}: {reason}", markup=True)

    def _move(self, asset: str) -> None:
        if self._moving and asset:
            self._status.update(f"{asset} …")

    def _line(self, text: str, *, moving: bool = False, markup: bool = False) -> None:
        if self._quiet:
            return
        if moving and self._moving:
            self._status.update(text.strip().replace("[", "\\["))
        self._console.print(text, markup=markup)


def _is_noise(message: str) -> bool:
    """Say whether a line of Dagster's own is of no use to a person."""
    return message.startswith(("[pipes]", "Dependencies for step"))


def _asset(step_key: str | None, model: str) -> str:
    return (step_key or "").removeprefix(f"{model}__")
