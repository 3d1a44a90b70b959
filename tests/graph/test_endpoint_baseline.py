"""A general model elsewhere as the baseline: what leaves the house, and every way it can fail."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.graph.endpoint_baseline import (
    Asked,
    ask_endpoint,
    highest_class,
    settings_for,
)
from ftdm_assets.graph.prompt_questions import Questions
from ftdm_assets.model_folder import ModelFolder
from golden.examples import Example
from tests.golden.endpoint import Answer, Reply, completion, serve
from tests.graph.samples import model_folder
from tests.graph.stage import StepsHere

KEY = "s3cret-of-the-house"
EXAMPLES = [Example(f"e{n}", f"text {n}", "ab"[n % 2], "jane") for n in range(6)]
PUBLIC = [{"data_class": "public"}]


def model_at(folder: Path, url: str, baseline: dict[str, Any], **endpoint: Any) -> ModelFolder:
    named = {"url": url, "model": "large", "retries": 0, **endpoint}
    return model_folder(
        folder / "demo",
        baseline={"endpoint": named, **baseline},
        labels={"path": "labels.jsonl", "data_class": "public"},
    )


def ask(
    folder: Path,
    url: str,
    *,
    tools: StepsHere | None = None,
    constrain: Any = "auto",
    **endpoint: Any,
) -> Asked:
    model = model_at(folder, url, {"constrain": constrain}, **endpoint)
    questions = Questions(model, EXAMPLES, {one.example_id: [] for one in EXAMPLES}, len(EXAMPLES))
    settings = model.settings.baseline.endpoint
    assert settings is not None
    asking = settings_for(settings, questions)
    assert KEY not in repr(asking)
    return ask_endpoint(settings, asking, questions, tools or StepsHere())


def in_json(body: dict[str, Any]) -> str:
    """Answer "a" as JSON, as it was asked for."""
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["category"]
    return '{"category": "a"}'


def test_answers_are_held_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTDM_BASELINE_API_KEY", f"{KEY}\n")
    tools = StepsHere()
    with serve(in_json, key=KEY) as url:
        asked = ask(tmp_path, url, tools=tools)
    assert asked.constrained == "asked for by response_format"
    model = model_at(tmp_path, url, {})
    scores = asked.scores(Questions(model, EXAMPLES, {}, len(EXAMPLES)))
    assert (scores.correct, scores.total, scores.invalid) == (3, 6, 0)
    endpoint = model.settings.baseline.endpoint
    assert endpoint is not None
    pace = asked.pace(endpoint)
    assert pace.usage is not None
    assert (pace.usage.input_tokens, pace.usage.output_tokens, pace.concurrency) == (100, 4, 6)
    assert tools.said[-1] == "6 of 6 golden examples answered"


@pytest.mark.parametrize("status", [400, 422])
def test_an_endpoint_that_cannot_hold_answers_is_asked_once_more_without(
    tmp_path: Path, status: int
) -> None:
    refusals = []

    def answer(body: dict[str, Any]) -> str | Reply:
        if "response_format" in body:
            refusals.append(body)
            return Reply(status, {"error": {"message": "response_format is not known"}})
        assert "Answer with the category's name only." in body["messages"][0]["content"]
        return "b"

    with serve(answer) as url:
        asked = ask(tmp_path, url, concurrency=1)
    assert asked.constrained == f"no: response_format was refused (HTTP {status})"
    assert set(asked.answers.predictions.values()) == {"b"}
    assert len(refusals) == 1


def test_off_never_asks_for_it_and_fields_can_be_taken_out(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> str:
        bodies.append(body)
        return "a"

    with serve(answer) as url:
        # YAML reads a bare `off` as false.
        asked = ask(tmp_path, url, constrain=False, body={"temperature": None, "seed": 7})
    assert asked.constrained == "no: attributes.baseline.constrain is off"
    assert {frozenset(body) for body in bodies} == {
        frozenset({"model", "messages", "max_tokens", "seed"})
    }


def failing(reply: Callable[[], str | Reply]) -> Answer:
    return lambda _: reply()


def slow() -> str:
    time.sleep(1)
    return "a"


FAILURES: dict[str, tuple[Answer, dict[str, Any], list[str]]] = {
    "wrong key": (
        failing(lambda: Reply(401, {"error": {"message": f"no such key: {KEY}"}})), {},
        ["HTTP 401: no such key: (the key)", "FTDM_BASELINE_API_KEY was sent"],
    ),
    "too many": (
        failing(lambda: Reply(429, b"slow down", {"retry-after": "0"})), {"retries": 1},
        ["HTTP 429: slow down", "attributes.baseline.endpoint.concurrency"],
    ),
    "unknown model": (
        failing(lambda: Reply(404, {"error": {"message": "no model large"}})), {},
        ["HTTP 404: no model large", "serves this model"],
    ),
    "unknown field": (
        failing(lambda: Reply(400, {"error": {"message": "no max_tokens"}})), {},
        ["HTTP 400: no max_tokens", "attributes.baseline.endpoint.body"],
    ),
    "slow": (
        failing(slow), {"timeout_s": 0.2},
        ["no answer within 0.2 s", "raise attributes.baseline.endpoint.timeout_s"],
    ),
    "garbage": (failing(lambda: Reply(200, b"<html>")), {}, ["that is no chat completion"]),
    "a list": (failing(lambda: Reply(200, [1])), {}, ["that is no chat completion"]),
    "thinking": (
        failing(lambda: completion(None, "length")), {},
        ["6 of 6 answers were cut off before they began", "body: {max_tokens: 2000}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_every_failure_is_one_sentence_without_the_key(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_BASELINE_API_KEY", KEY)
    answer, settings, told = FAILURES[case]
    tools = StepsHere()
    with serve(answer) as url, pytest.raises(ValueError, match=r"^attributes\.base") as caught:
        ask(tmp_path, url, tools=tools, **settings)
    message = str(caught.value)
    assert all(part in message for part in told), message
    assert "\n" not in message
    assert KEY not in message
    assert not any(KEY in line for line in tools.said)
    # No chained error shows what the message leaves out.
    assert caught.value.__cause__ is None


def test_an_endpoint_that_is_down_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ValueError, match=r"ConnectError.*check that the endpoint is up"):
            ask(tmp_path, url)


def test_a_missing_key_is_told_with_its_variable(tmp_path: Path) -> None:
    assert "FTDM_OTHER_KEY" not in os.environ
    with (
        serve(in_json, key=KEY) as url,
        pytest.raises(ValueError, match="FTDM_OTHER_KEY is not set"),
    ):
        ask(tmp_path, url, key_env="FTDM_OTHER_KEY")


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}ä"])
def test_what_cannot_be_a_key_is_refused_unseen(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_BASELINE_API_KEY", key)
    with pytest.raises(ValueError, match="FTDM_BASELINE_API_KEY holds a line break") as caught:
        ask(tmp_path, "http://127.0.0.1:9/v1")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "record", "allowed", "refused"),
    [
        ("public", "public", "public", False),
        ("public", "internal", "public", True),
        ("internal", "public", "public", True),
        ("internal", "internal", "internal", False),
        ("internal", "restricted", "confidential", True),
        ("public", "public", "restricted", False),
    ],
)
def test_nothing_above_the_allowed_class_leaves(
    tmp_path: Path, labels: str, record: str, allowed: str, refused: bool
) -> None:
    model = model_folder(
        tmp_path / "demo",
        labels={"path": "labels.jsonl", "data_class": labels},
        baseline={"endpoint": {"url": "https://elsewhere/v1", "model": "m",
                               "allowed_data_class": allowed}},
    )  # fmt: skip
    endpoint = model.settings.baseline.endpoint
    assert endpoint is not None
    records = [*PUBLIC, {"data_class": record}]
    if refused:
        highest = max(labels, record, key=["public", "internal", "restricted"].index)
        told = rf"{highest}, and https://elsewhere/v1 .*allowed_data_class: {highest} if"
        with pytest.raises(ValueError, match=told):
            highest_class(model, endpoint, records)
    else:
        assert highest_class(model, endpoint, records) in {labels, record}
