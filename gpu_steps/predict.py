"""Sends a file of requests to an inference engine that it starts, and writes the answers.

Invariants: one line out for each line in, in the same order, holding either the response or the
error; nothing is written unless every request was settled; the engine is stopped in every case.
"""

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import ConfigError, StepError
from gpu_steps.engine_process import Engine, RunningEngine, running_engine
from gpu_steps.output import write_json, write_json_lines
from gpu_steps.program import run_program
from gpu_steps.reporting import Reporter
from gpu_steps.requests import Answer, Settings, send_all
from gpu_steps.rows import read_json_lines

_REPORT_SECONDS = 2.0


@dataclass(frozen=True)
class Predict:
    """The step's configuration; times in seconds."""

    engine: Engine
    requests: Path
    output: Path
    result: Path
    concurrency: int
    startup_timeout_s: float
    request_timeout_s: float
    retries: int

    def __post_init__(self) -> None:
        """Refuse what would send nothing or never end."""
        if self.concurrency < 1 or self.retries < 0:
            raise ValueError("concurrency must be at least 1 and retries at least 0.")
        if self.startup_timeout_s <= 0 or self.request_timeout_s <= 0:
            raise ValueError("startup_timeout_s and request_timeout_s must be greater than 0.")


def predict(config: Predict, reporter: Reporter) -> None:
    """Write one answer a request to `output` and figures to `result`."""
    requests = read_requests(config.requests)
    log = config.result.with_name(f"{config.result.name}.engine.log")
    with running_engine(config.engine, log, config.startup_timeout_s, reporter) as engine:
        reporter.progress(f"engine ready after {engine.startup_seconds:.0f} s")
        started = time.monotonic()
        answers = asyncio.run(_send(config, requests, engine, reporter))
        seconds = time.monotonic() - started
    failed = [answer.error for answer in answers if answer.error is not None]
    if len(failed) == len(answers):
        raise StepError(f"all {len(answers)} requests failed; the first: {failed[0]}")
    write_json_lines(config.output, [answer.as_row() for answer in answers])
    write_json(config.result, _figures(answers, seconds, engine.startup_seconds))


def read_requests(path: Path) -> list[dict[str, Any]]:
    """Read requests {"id", "path", "body"}.

    Raises:
        ConfigError: naming the line that is none, or an id that occurs twice.
    """
    requests = read_json_lines(path)
    seen: set[str] = set()
    for number, request in enumerate(requests, start=1):
        where = f"{path}, line {number}"
        if sorted(request) != ["body", "id", "path"]:
            raise ConfigError(f"{where}: must have the keys id, path, body and no others.")
        if not isinstance(request["id"], str) or not isinstance(request["body"], dict):
            raise ConfigError(f"{where}: id must be a string and body an object.")
        if not isinstance(request["path"], str) or not request["path"].startswith("/"):
            raise ConfigError(f"{where}: path must start with '/'.")
        if request["id"] in seen:
            raise ConfigError(f"{where}: id {request['id']!r} occurs twice; ids must differ.")
        seen.add(request["id"])
    return requests


async def _send(
    config: Predict, requests: list[dict[str, Any]], engine: RunningEngine, reporter: Reporter
) -> list[Answer]:
    settings = Settings(
        config.engine.base_url, config.concurrency, config.request_timeout_s, config.retries
    )
    started = time.monotonic()
    reported = started

    def settled(done: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported < _REPORT_SECONDS and done < len(requests):
            return
        reported = now
        text = f"{done} of {len(requests)} answered, {done / (now - started):.1f} a second"
        reporter.progress(text, step=done, steps=len(requests))

    return await send_all(requests, settings, engine.require_alive, settled)


def _figures(answers: list[Answer], seconds: float, startup: float) -> dict[str, Any]:
    latencies = sorted(answer.latency_s for answer in answers if answer.error is None)
    return {
        "requests": len(answers),
        "failed": len(answers) - len(latencies),
        "seconds": round(seconds, 3),
        "startup_seconds": round(startup, 3),
        "requests_per_second": round(len(answers) / seconds, 3),
        "latency_p50_s": round(statistics.median(latencies), 4),
        "latency_p95_s": round(latencies[int(0.95 * (len(latencies) - 1))], 4),
    }


if __name__ == "__main__":
    sys.exit(run_program("predict", Predict, predict))
