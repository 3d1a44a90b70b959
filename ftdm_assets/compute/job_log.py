"""The log of a remote job, which carries the step's Pipes messages too.

The step writes its messages to standard output, and the service that runs the container keeps
that. So the container needs no message store, and a job that another process joins is read from
its beginning.

Invariant: each line is handed on once, in order within its stream; an unreadable log is said once
and never fails the job.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import (
    PIPES_PROTOCOL_VERSION_FIELD,
    PipesContextData,
    PipesDefaultContextLoader,
    PipesDefaultMessageWriter,
    PipesParams,
)

from ftdm_assets.compute.job import Operator
from ftdm_assets.compute.process import StepFailedError

_KEPT = ("asset_keys", "run_id", "job_name", "retry_number", "extras")


class ShortContext(dg.PipesEnvContextInjector):
    """Injects what identifies the run, and no more: SageMaker takes 512 characters a variable."""

    @contextmanager
    def inject_context(self, context_data: PipesContextData) -> Iterator[PipesParams]:
        """Yield the context without the inputs' digests, which a step never reads."""
        short = {
            name: value if name in _KEPT else None for name, value in dict(context_data).items()
        }
        yield {PipesDefaultContextLoader.DIRECT_KEY: short}


class JobLog(dg.PipesMessageReader):
    """Reads the log of a job: Pipes messages to Dagster, other lines to ``say``."""

    def __init__(
        self, operator: Operator, job: Callable[[], str], say: Callable[[str], None]
    ) -> None:
        self._operator = operator
        self._job = job
        self._say = say
        self._handler: PipesMessageHandler | None = None
        self._closed: Any = None
        self._opened = self._told = False

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        """Give the parameters that make the step write to standard output."""
        self._handler = handler
        yield {PipesDefaultMessageWriter.STDIO_KEY: PipesDefaultMessageWriter.STDOUT}
        # A step that was interrupted and went on has closed more than once.
        if self._closed is not None:
            handler.handle_message(self._closed)

    def no_messages_debug_text(self) -> str:
        """Say where messages were looked for."""
        return f"Looked for messages in the log of the {self._operator.noun} {self._job()}."

    @property
    def closed(self) -> bool:
        """Return whether the step has said that it was done."""
        return self._closed is not None

    def look(self) -> None:
        """Hand on what has come since the last look."""
        try:
            with self._operator.told("the job's log cannot be read"):
                for line in self._operator.lines(self._job()):
                    self._hand_on(line)
        except StepFailedError as error:
            if not self._told:
                self._told = True
                self._say(str(error))

    def _hand_on(self, line: str) -> None:
        message = _message(line)
        if message is None or self._handler is None:
            if line.strip():
                self._say(line)
        elif message["method"] == "closed":
            self._closed = message
        elif message["method"] != "opened" or not self._opened:
            self._opened = self._opened or message["method"] == "opened"
            self._handler.handle_message(message)


def _message(line: str) -> Any:
    """Return the Pipes message that a line is, or None."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(found, dict) and PIPES_PROTOCOL_VERSION_FIELD in found and "method" in found
    return found if whole else None
