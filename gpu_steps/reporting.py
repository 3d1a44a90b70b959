"""Where a step's progress goes: to Dagster through Pipes, or as plain lines to standard error.

Invariant: a step never knows which; it holds a `Reporter`. Nothing but progress goes this way,
results are files.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

_PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"


class Reporter(Protocol):
    """Takes a step's messages while it runs."""

    def log(self, line: str) -> None:
        """Report one line of text."""

    def progress(self, text: str, **numbers: float) -> None:
        """Report how far the step is: a line for people and its numbers for programs."""


@dataclass(frozen=True)
class PlainReporter:
    """Writes lines to standard error."""

    name: str

    def log(self, line: str) -> None:
        """Write one line."""
        sys.stderr.write(f"{self.name}: {line}\n")
        sys.stderr.flush()

    def progress(self, text: str, **numbers: float) -> None:
        """Write the text; the numbers are in it already."""
        del numbers
        self.log(text)


@dataclass(frozen=True)
class PipesReporter:
    """Streams lines and progress messages to the Dagster run that started the step."""

    context: Any

    def log(self, line: str) -> None:
        """Log one line in the run."""
        self.context.log.info(line)

    def progress(self, text: str, **numbers: float) -> None:
        """Log the text and send the numbers as a custom message of kind `progress`."""
        self.context.log.info(text)
        self.context.report_custom_message({"kind": "progress", "text": text, **numbers})


@dataclass
class RecordingReporter:
    """Keeps what it is told, for tests and for callers that run a step in their own process."""

    lines: list[str] = field(default_factory=list)
    numbers: list[dict[str, float]] = field(default_factory=list)

    def log(self, line: str) -> None:
        """Keep one line."""
        self.lines.append(line)

    def progress(self, text: str, **numbers: float) -> None:
        """Keep the text and its numbers."""
        self.lines.append(text)
        self.numbers.append(numbers)


@contextmanager
def open_reporter(name: str) -> Iterator[Reporter]:
    """Give the reporter that fits this process; the program `name` heads plain lines."""
    if _PIPES_VARIABLE not in os.environ:
        yield PlainReporter(name)
        return
    from dagster_pipes import open_dagster_pipes  # only a step that Dagster started needs it

    with open_dagster_pipes() as context:
        yield PipesReporter(context)
