"""The whole graph with real parts: training, vLLM replicas, MLflow, rollback under load, kills.

One small domain model (four of the shipped categories, one epoch) goes through everything; its
gates are low, because what is tested here is the machinery and not the model.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ftdm_assets.graph.general_ability import PACKAGE_QUESTIONS
from ftdm_assets.provenance.store import ArtifactStore
from ftdm_assets.settings import read_yaml
from serving.health import free_port
from serving.local_key import local_key
from tests.commands.helpers import REPOSITORY, SHIPPED, Place
from tests.serving.serving_support import bearer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

MODEL = "small"
SCORED = "training_set,baseline_scores,adapter,merged_model,eval_scores"
GATES = """  gates:
    target_accuracy: 0.45
    baseline_margin_points: 0
    class_floor_recall: 0
    output_valid: 0.3
    suspected_label_errors: 0.5
    worse_than_production_points: 100
    general_drop_points: 100
    smoke_correct: 0
  training:
    epochs: 1
    learning_rate: 0.002
    checkpoint_every: 5
    lora: {upper_layers: 10}
"""


class Running:
    """The small model in production, and how long things took."""

    def __init__(self, place: Place, gateway: str) -> None:
        self.place, self.gateway = place, gateway

    def ask(self, model: str = MODEL) -> httpx.Response:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "I want to send my lamp back, how?"}],
        }
        # What is tested is the replicas, not the result cache before them.
        headers = self.headers | {"x-ftdm-cache": "off"}
        url = f"{self.gateway}/v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)

    @property
    def headers(self) -> dict[str, str]:
        return bearer(local_key(self.place.home))


def wait_for(found: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = found()
        if result:
            return result
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def processes(marker: str, home: Path) -> list[int]:
    """Return the ids of processes with the marker in their command line, of this home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if marker in command and str(home) in command:
                found.append(int(entry.name))
    return found


def pids(running: Running, *names: str) -> set[int]:
    """Return the process ids of these supervised programs, or of all."""
    programs = running.place.ftdm("status", "--json").document["programs"]
    return {one["pid"] for one in programs if one["pid"] and (not names or one["name"] in names)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("e2e")
    ports = [free_port() for _ in range(4)]
    place = Place(
        folder,
        FTDM_GATEWAY_PORT=str(ports[0]), FTDM_CACHE_PORT=str(ports[1]), FTDM_UI_PORT=str(ports[2]),
        FTDM_METRICS_PORT=str(ports[3]),
    )  # fmt: skip
    made = place.ftdm(
        "new", MODEL, "--labels", str(SHIPPED / "tickets.jsonl"),
        "--golden", str(SHIPPED / "golden.jsonl"), "--classes", "4",
    )  # fmt: skip
    assert made.code == 0, made.err
    defs = place.models / MODEL / "defs.yaml"
    text = re.sub(r"  gates:\n(    .*\n)+", GATES, defs.read_text())
    text = re.sub(r"minimum: \d+", "minimum: 20", text).replace(
        "labels:\n", "labels:\n    minimum: 100\n", 1
    )
    # A few of the general questions: what is tested is that they are asked and compared.
    questions = PACKAGE_QUESTIONS.read_text(encoding="utf-8").splitlines(keepends=True)[::24]
    (defs.parent / "questions.jsonl").write_text("".join(questions), encoding="utf-8")
    defs.write_text(text + "  general: {questions: questions.jsonl}\n")
    try:
        yield Running(place, f"http://127.0.0.1:{ports[0]}")
    finally:
        place.ftdm("down", timeout=120)


def test_1_a_run_killed_while_it_trains_leaves_nothing_half_made(running: Running) -> None:
    place = running.place
    process = place.start("run", MODEL)

    def training() -> list[int]:
        assert process.poll() is None, place.ftdm("run", MODEL).err
        return processes("gpu_steps.train", place.home) if place.home.exists() else []

    trainers = wait_for(training, 600, "training")
    wait_for(lambda: list(place.home.rglob("checkpoint-5/whole")), 300, "a checkpoint")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not processes("gpu_steps.train", place.home), 30, "the end of the step")
    assert trainers
    assert not (place.home / "store" / "artifacts" / "adapter").exists()


def test_2_the_next_run_goes_on_and_deploys(running: Running) -> None:
    done = running.place.ftdm("run", MODEL, "--json", timeout=1400)
    assert done.code == 0, done.err + done.out
    document = done.document
    rows = {row["asset"]: row for row in document["assets"]}
    assert all(row["passed"] == row["checks"] for row in rows.values() if not row["warned"])
    assert document["production"] == f"{MODEL}-v0001"
    # What was finished before the kill was not made again.
    assert rows["cleaned_dataset"]["seconds"] is None
    assert rows["baseline_scores"]["seconds"] is None
    log = next((running.place.home / "work" / "steps").glob("train-*.log"))
    assert log.exists()


def test_3_the_endpoint_answers_with_the_version(running: Running) -> None:
    answer = running.ask()
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ftdm-version"] == f"{MODEL}-v0001"
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert answer.headers["x-ftdm-constrained"] == "choice"
    labels = read_yaml(running.place.models / MODEL / "taxonomy.yaml")
    assert answer.json()["choices"][0]["message"]["content"] in labels
    names = [
        one["id"]
        for one in httpx.get(
            f"{running.gateway}/v1/models", headers=running.headers, trust_env=False
        ).json()["data"]
    ]
    assert MODEL in names


def test_3_pytest_asset_and_canary_give_the_same_scores_to_the_example(
    running: Running, tmp_path: Path
) -> None:
    place, report = running.place, tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "golden", "-q", "-p", "no:cacheprovider",
            f"--model-url={running.gateway}/v1", f"--model={MODEL}", "--wrong-answers=xfail",
            f"--golden-report={report}",
        ],
        cwd=REPOSITORY,
        env={
            **place.environment, "PYTHONPATH": str(REPOSITORY),
            "FTDM_MODEL_KEY": local_key(place.home),
        },
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(report.read_text())
    store = ArtifactStore(place.home / "store")
    _, evaluated = store.head(MODEL, "eval_scores")
    _, taken = store.head(MODEL, "canary_scores")
    asset = store.read_document(evaluated.kind, evaluated.digest)["task"]
    canary = store.read_document(taken.kind, taken.digest)
    # One model: the one evaluated is the one that the canary and pytest have asked.
    merged = next(ref.digest for ref in evaluated.inputs if ref.asset == "merged_model")
    assert (canary["version"], canary["digest"]) == (f"{MODEL}-v0001", merged)
    assert told["answered_by"] == canary["answered_by"] == [f"{MODEL}-v0001"]
    assert asset["total"] == len(asset["per_example"]) > 0
    assert told["task"]["per_example"] == asset["per_example"]
    assert canary["task"]["per_example"] == asset["per_example"]
    assert told["task"] == canary["task"] == asset


def test_4_a_second_run_finds_everything_current_within_30_s(running: Running) -> None:
    started = time.monotonic()
    done = running.place.ftdm("run", MODEL)
    assert done.code == 0, done.err
    assert "everything is current" in done.out
    assert time.monotonic() - started < 30


def test_5_the_trace_needs_no_dagster(running: Running, tmp_path: Path) -> None:
    place = running.place
    place.environment["DAGSTER_HOME"] = str(tmp_path / "empty")
    try:
        document = place.ftdm("trace", f"{MODEL}-v0001", "--json").document
    finally:
        del place.environment["DAGSTER_HOME"]
    nodes = {node["asset"]: node for node in document["ancestors"]}
    assert {"raw_labels", "golden_set", "adapter", "merged_model", "eval_scores"} <= set(nodes)
    assert nodes["raw_labels"]["rows"] > 100
    assert all(node["checks"] and node["run"]["dagster_run_id"] for node in nodes.values()
               if node["asset"] not in {"registered_version"})  # fmt: skip
    assert document["deployments"][0]["kind"] == "promote"


def test_6_a_failed_check_stops_a_later_deployment_alone(running: Running) -> None:
    defs = running.place.models / MODEL / "defs.yaml"
    good = defs.read_text()
    defs.write_text(good.replace("target_accuracy: 0.45", "target_accuracy: 1.0"))
    try:
        judged = running.place.ftdm("run", MODEL, "--json")
        assert judged.code == 1
        seconds = {row["asset"]: row["seconds"] for row in judged.document["assets"]}
        assert set(seconds.values()) == {None}, "a changed threshold must make nothing again"
        alone = running.place.ftdm("run", MODEL, "--select", "deployed_version")
        assert alone.code == 1
        assert "deployed_version is refused: eval_scores.target_reached failed" in alone.err
    finally:
        defs.write_text(good)
    assert running.place.ftdm("run", MODEL).code == 0
    assert running.ask().status_code == 200


def test_7_a_second_version_takes_over_and_a_rollback_loses_no_request(running: Running) -> None:
    defs = running.place.models / MODEL / "defs.yaml"
    text, changed = re.subn(r"max_new_tokens: \d+", "max_new_tokens: 31", defs.read_text())
    assert changed == 1
    defs.write_text(text)
    scored = running.place.ftdm("run", MODEL, "--select", SCORED, "--json", timeout=1200)
    assert scored.code == 0, scored.err + scored.out
    rows = {row["asset"]: row["seconds"] for row in scored.document["assets"]}
    assert (rows["adapter"] or 0) < 5, "the adapter's recipe is the same: it comes from the store"
    assert rows["eval_scores"]
    answers: list[tuple[float, int, str]] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.wait(0.2):
            answer = running.ask()
            version = answer.headers.get("x-ftdm-version", "")
            answers.append((time.monotonic(), answer.status_code, version))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        done = running.place.ftdm("run", MODEL, "--json", timeout=1200)
        assert done.code == 0, done.err + done.out
        assert done.document["production"] == f"{MODEL}-v0002"
        time.sleep(2)
        moved = time.monotonic()
        rolled = running.place.ftdm("rollback", "--json")
        assert rolled.code == 0, rolled.err
        time.sleep(2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for _, status, _ in answers} == {200}
    first_back = next(at for at, _, version in answers if at > moved and version.endswith("v0001"))
    assert first_back - moved < 10
    assert answers[-1][2] == f"{MODEL}-v0001"
    assert {version for _, _, version in answers} == {f"{MODEL}-v0001", f"{MODEL}-v0002"}


def test_8_the_lineage_shows_the_rollback_and_the_next_run_does_not_undo_it(
    running: Running,
) -> None:
    document = running.place.ftdm("trace", f"{MODEL}-v0001", "--json").document
    assert [one["kind"] for one in document["deployments"]] == ["promote", "rollback"]
    done = running.place.ftdm("run", MODEL, "--json", timeout=600)
    assert done.document["production"] == f"{MODEL}-v0001"
    assert running.ask().headers["x-ftdm-version"] == f"{MODEL}-v0001"


def test_9_a_killed_replica_costs_no_request_and_comes_back(running: Running) -> None:
    status = running.place.ftdm("status", "--json").document
    victim = next(
        one for one in status["programs"] if one["name"].startswith(f"{MODEL}-v0001-replica-0")
        or one["name"].startswith(f"{MODEL}-v0001-replica-1")
    )  # fmt: skip
    os.kill(victim["pid"], signal.SIGKILL)
    codes = [running.ask().status_code for _ in range(20)]
    assert set(codes) == {200}

    def whole() -> bool:
        models = running.place.ftdm("status", "--json").document["models"]
        return any(one["model"] == MODEL and one["current_healthy"] == 2 for one in models)

    wait_for(whole, 300, "the replica's return")


def test_a_up_starts_the_ui_and_down_stops_everything(running: Running) -> None:
    done = running.place.ftdm("up", "--json", timeout=400)
    assert done.code == 0, done.err + done.out
    document = json.loads(done.out)
    query = {"query": "{ assetNodes { assetKey { path } groupName } }"}
    answer = httpx.post(f"{document['ui_url']}/graphql", json=query, timeout=120, trust_env=False)
    groups = {
        node["assetKey"]["path"][-1]: node["groupName"]
        for node in answer.json()["data"]["assetNodes"] if node["assetKey"]["path"][0] == MODEL
    }  # fmt: skip
    assert groups["adapter"] == "training"
    assert groups["deployed_version"] == "release"

    # Killed, UI and daemon come back by themselves.
    dagster = pids(running, "dagster-ui", "dagster-daemon")
    assert len(dagster) == 2
    for pid in dagster:
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        now = pids(running, "dagster-ui", "dagster-daemon")
        if len(now) < 2 or now & dagster:
            return False
        try:
            return httpx.post(
                f"{document['ui_url']}/graphql", json=query, timeout=30, trust_env=False
            ).is_success
        except httpx.HTTPError:
            return False

    wait_for(back, 120, "the return of UI and daemon")
    everything = pids(running)
    assert running.place.ftdm("down", timeout=200).code == 0
    assert not {pid for pid in everything if Path(f"/proc/{pid}").exists()}
    with pytest.raises(httpx.ConnectError):
        running.ask()


def test_b_after_down_up_serves_the_same_version_again(running: Running) -> None:
    assert running.place.ftdm("up", "--json", timeout=600).code == 0
    assert running.ask().headers["x-ftdm-version"] == f"{MODEL}-v0001"


def test_c_the_first_version_trained_again_is_the_same_bit_for_bit(running: Running) -> None:
    # Its training was killed and went on from a checkpoint (test 1); this one is in one piece.
    done = running.place.ftdm("reproduce", f"{MODEL}-v0001", "--scores", "--json", timeout=900)
    assert done.code == 0, done.err
    document = done.document
    assert document["outcome"] == "bit_for_bit", document["reason"]
    assert document["scores"]["agree"], document["reason"]
    (shown,) = running.place.ftdm("trace", f"{MODEL}-v0001", "--json").document["reproductions"]
    assert shown["outcome"] == "bit_for_bit"
    assert running.ask().headers["x-ftdm-version"] == f"{MODEL}-v0001"
