"""Steps out of process: messages that are written in pieces, and errors in the step's own words."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftdm_assets.compute.local import StepFailedError, WholeLineReader, run_step
from ftdm_assets.compute.process import StepProcess


class Handler:
    """Keeps the messages that a reader hands on."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def handle_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


def test_a_message_written_in_pieces_is_read_whole(tmp_path: Path) -> None:
    path, handler, closed = tmp_path / "messages", Handler(), threading.Event()
    path.touch()
    reader = WholeLineReader(str(path))
    thread = threading.Thread(target=reader._reader_thread, args=(handler, closed))
    thread.start()
    with path.open("a") as stream:
        for piece in ('{"method": "log", "par', 'ams": {"x": 1}}', '\n{"method": "closed"}\n'):
            stream.write(piece)
            stream.flush()
            time.sleep(0.1)
    closed.set()
    thread.join(10)
    assert handler.messages == [{"method": "log", "params": {"x": 1}}, {"method": "closed"}]


def test_a_failing_step_fails_the_asset_with_its_own_words(tmp_path: Path) -> None:
    raised: list[str] = []

    @dg.asset
    def broken(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        try:
            run_step(context, "merge", {"base_model": "nowhere"}, tmp_path)
        except StepFailedError as error:
            raised.append(str(error))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([broken], instance=instance).success
    assert "gpu_steps.merge failed: merge: error:" in raised[0]
    assert "the key 'adapter' is missing" in raised[0]
    assert "Traceback" not in raised[0]


def test_a_step_s_progress_reaches_the_log(tmp_path: Path) -> None:
    @dg.asset
    def base(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        config = {"source": f"folder:{tmp_path / 'none'}", "output": str(tmp_path / "out")}
        with pytest.raises(StepFailedError, match="none"):
            run_step(context, "prepare_base", config, tmp_path)
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([base], instance=instance)
        records = instance.all_logs(result.run_id)
    assert any("Runs out of process; by hand" in record.user_message for record in records)


def test_a_step_runs_without_dagster_and_is_heard_while_it_runs(tmp_path: Path) -> None:
    config = {"source": f"folder:{tmp_path / 'none'}", "output": str(tmp_path / "out")}
    step = StepProcess.prepared("prepare_base", config, tmp_path)
    heard: list[str] = []
    with pytest.raises(StepFailedError, match=r"prepare_base failed: prepare_base: error: .*none"):
        step.run({}, heard.append)
    assert heard[0] == f"prepare_base: loading folder:{tmp_path / 'none'}"
    assert heard == step.log.read_text().splitlines()
    assert step.by_hand.endswith(f"-m gpu_steps.prepare_base --config {step.file}")


def test_whoever_waits_for_a_step_and_is_stopped_stops_the_step(tmp_path: Path) -> None:
    # A pipe for the configuration: the step waits for it, and would for ever.
    step = StepProcess("merge", tmp_path / "merge.json")
    os.mkfifo(step.file)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupted)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2)
        with pytest.raises(KeyboardInterrupt):
            step.run({}, lambda line: None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # No reader is left: opening the pipe to write without waiting fails.
    with pytest.raises(OSError, match="No such device"):
        os.open(step.file, os.O_WRONLY | os.O_NONBLOCK)
