"""Requests reach a real HTTP engine that may be slow, failing or dying; it never outlives them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_steps.config import ConfigError, StepError, parse
from gpu_steps.predict import Predict, predict
from gpu_steps.reporting import RecordingReporter
from tests.gpu_steps.gpu_tiny import write_lines

FAKE = Path(__file__).with_name("gpu_fake_engine.py")
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Make:
    """Makes a predict configuration whose engine is the fake one with the given options."""

    def make(*options: str, requests: int = 12, **changes: Any) -> dict[str, Any]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        rows = [
            {"id": f"q{number}", "path": "/v1/chat/completions", "body": {"n": number}}
            for number in range(requests)
        ]
        return {
            "engine": {
                "argv": [sys.executable, str(FAKE), str(port), *options],
                "env": {},
                "health_url": f"http://127.0.0.1:{port}/health",
                "base_url": f"http://127.0.0.1:{port}",
            },
            "requests": str(write_lines(tmp_path / "requests.jsonl", rows)),
            "output": str(tmp_path / "answers.jsonl"),
            "result": str(tmp_path / "result.json"),
            "concurrency": 4,
            "startup_timeout_s": 20,
            "request_timeout_s": 5,
            "retries": 2,
        } | changes

    return make


def run(settings: dict[str, Any]) -> list[dict[str, Any]]:
    predict(parse(settings, Predict, "step.json"), RecordingReporter())
    return [json.loads(line) for line in Path(settings["output"]).read_text().splitlines()]


def port_is_free(settings: dict[str, Any]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(settings["engine"]["argv"][2]))) != 0


def test_answers_come_in_the_order_of_the_requests_and_within_the_bound(settings: Make) -> None:
    config = settings("slow=0.05", "startup=0.5")
    answers = run(config)
    assert [answer["id"] for answer in answers] == [f"q{number}" for number in range(12)]
    assert [answer["response"]["echo"]["n"] for answer in answers] == list(range(12))
    assert all(answer["latency_s"] >= 0.05 for answer in answers)
    assert max(answer["response"]["most"] for answer in answers) in (2, 3, 4)
    figures = json.loads(Path(config["result"]).read_text())
    assert (figures["requests"], figures["failed"]) == (12, 0)
    assert figures["startup_seconds"] >= 0.5
    assert port_is_free(config)


def test_failures_that_pass_are_tried_again(settings: Make) -> None:
    answers = run(settings("fail=2", concurrency=1))
    assert all("error" not in answer for answer in answers)


def test_failures_that_stay_are_written_as_errors(settings: Make) -> None:
    config = settings("fail=3", concurrency=1)
    answers = run(config)
    assert answers[0]["error"] == 'HTTP 500: {"message": "no room"}'
    assert all("response" in answer for answer in answers[1:])
    assert json.loads(Path(config["result"]).read_text())["failed"] == 1


def test_refused_requests_are_not_tried_again(settings: Make) -> None:
    answers = run(settings("fail=1", "status=400", concurrency=1))
    assert answers[0]["error"].startswith("HTTP 400")
    assert answers[1]["response"]["echo"] == {"n": 1}


def test_slow_answers_time_out(settings: Make) -> None:
    config = settings("slow=3", requests=2, request_timeout_s=0.3, retries=1)
    with pytest.raises(StepError, match=r"all 2 requests failed; the first: .*Timeout"):
        run(config)
    assert not Path(config["output"]).exists()
    assert port_is_free(config)


def test_an_engine_that_only_fails_is_given_up_early(settings: Make) -> None:
    config = settings("fail=100000", requests=400, retries=0)
    with pytest.raises(StepError, match="requests failed; the first: HTTP 500"):
        run(config)


def test_engine_that_dies_is_reported_with_the_end_of_its_log(settings: Make) -> None:
    config = settings("die_after=5")
    with pytest.raises(StepError, match=r"exited with code 9; its log ends: out of memory"):
        run(config)
    assert not Path(config["output"]).exists()


def test_engine_that_does_not_start_is_reported_at_once(settings: Make) -> None:
    started = time.monotonic()
    with pytest.raises(StepError, match=r"exited with code 3; its log ends: cannot find the model"):
        run(settings("exit=1", startup_timeout_s=60))
    assert time.monotonic() - started < 20


def test_engine_that_is_not_ready_in_time_is_stopped(settings: Make) -> None:
    config = settings("startup=60", startup_timeout_s=1)
    with pytest.raises(StepError, match="was not healthy at http"):
        run(config)
    assert port_is_free(config)


def test_a_port_that_is_taken_is_refused(settings: Make) -> None:
    config = settings()
    other = subprocess.Popen(config["engine"]["argv"])
    try:
        deadline = time.monotonic() + 20
        while port_is_free(config) and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(StepError, match=r"something answers at .* already"):
            run(config)
        assert other.poll() is None
        external = config | {"engine": config["engine"] | {"argv": []}}
        assert len(run(external)) == 12
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def alive(number: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_workers_that_ignore_the_signal_are_gone_too(settings: Make, tmp_path: Path) -> None:
    run(settings(f"child={tmp_path / 'worker'}"))
    worker = int((tmp_path / "worker").read_text())
    assert wait_until(lambda: not alive(worker), 5)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_engine_does_not_outlive_a_killed_step(
    settings: Make, tmp_path: Path, number: signal.Signals
) -> None:
    config = settings("slow=2", requests=100)
    (tmp_path / "step.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "gpu_steps.predict", "--config", str(tmp_path / "step.json")]
    step = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert wait_until(lambda: not port_is_free(config))
    os.kill(step.pid, number)
    step.communicate(timeout=30)
    assert step.returncode == (-9 if number == signal.SIGKILL else 143)
    assert wait_until(lambda: port_is_free(config))
    assert not Path(config["output"]).exists()


def test_step_does_not_outlive_its_parent(settings: Make, tmp_path: Path) -> None:
    config = settings("slow=2", requests=100)
    (tmp_path / "step.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "gpu_steps.predict", "--config", str(tmp_path / "step.json")]
    code = f"import subprocess; subprocess.run({command!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert wait_until(lambda: not port_is_free(config))
    parent.kill()
    parent.wait()
    assert wait_until(lambda: port_is_free(config))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "path": "/v1"}], "line 1: must have the keys id, path, body"),
        ([{"id": 1, "path": "/v1", "body": {}}], "line 1: id must be a string"),
        ([{"id": "a", "path": "v1", "body": {}}], "line 1: path must start with '/'"),
        ([{"id": "a", "path": "/v1", "body": {}}] * 2, "line 2: id 'a' occurs twice"),
    ],
)
def test_bad_requests_are_refused_before_the_engine_starts(
    settings: Make, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    config = settings(requests=1)
    write_lines(tmp_path / "requests.jsonl", rows)
    with pytest.raises(ConfigError, match=message):
        run(config)
    assert not (tmp_path / "result.json.engine.log").exists()


def test_under_pipes_progress_and_lines_are_messages(settings: Make, tmp_path: Path) -> None:
    from dagster_pipes import encode_param

    context = {
        "asset_keys": ["scores"],
        "code_version_by_asset_key": {"scores": None},
        "provenance_by_asset_key": {"scores": None},
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "r1",
        "job_name": "j",
        "retry_number": 0,
        "extras": {},
    }
    messages = tmp_path / "messages"
    messages.touch()
    (tmp_path / "context").write_text(json.dumps(context))
    (tmp_path / "step.json").write_text(json.dumps(settings()))
    done = subprocess.run(
        [sys.executable, "-m", "gpu_steps.predict", "--config", str(tmp_path / "step.json")],
        env=os.environ
        | {
            "DAGSTER_PIPES_CONTEXT": encode_param({"path": str(tmp_path / "context")}),
            "DAGSTER_PIPES_MESSAGES": encode_param({"path": str(messages)}),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in messages.read_text().splitlines()]
    custom = [one["params"]["payload"] for one in found if one["method"] == "report_custom_message"]
    assert custom[-1]["kind"] == "progress"
    assert (custom[-1]["step"], custom[-1]["steps"]) == (12, 12)
    lines = [one["params"]["message"] for one in found if one["method"] == "log"]
    assert any(line.startswith("12 of 12 answered") for line in lines)
    assert found[-1]["method"] == "closed"
