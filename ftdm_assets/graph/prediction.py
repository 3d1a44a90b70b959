"""Predictions through the production engine, scored by the golden harness.

Both the prompted baseline and the merged model are asked here, with one engine, one way of
decoding and one harness, so that their scores differ by the model alone.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.graph.plan import Reading, Tools
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.files import jsonl_bytes, read_jsonl, write_bytes
from golden.client import AskSettings, chat_body
from golden.examples import Example
from golden.general import (
    GeneralScores,
    Question,
    answer_text,
    read_questions,
    request_rows,
    score_general,
)
from golden.metrics import ClassificationScores, score_classification
from serving.engine import engine_command

CONCURRENCY = 16
DTYPE = "bfloat16"
PACKAGE_QUESTIONS = Path(__file__).resolve().parents[1] / "general" / "questions.jsonl"


@dataclass(frozen=True)
class Scored:
    """Scores of one model, and how fast it answered."""

    task: ClassificationScores
    general: GeneralScores
    latency: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return the scores as a JSON document, without timings: those differ every time."""
        return {"task": self.task.as_dict(), "general": asdict(self.general)}


def examples_of(reading: Reading) -> list[Example]:
    """Return the golden examples."""
    return examples_in(reading.records("golden_set"))


def examples_in(rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    """Return the examples of a stored golden set's rows."""
    names = Example.__dataclass_fields__
    examples = [Example(**{name: row[name] for name in names}) for row in rows]
    return sorted(examples, key=lambda example: example.example_id)


def questions_path(reading: Reading) -> Path:
    """Return the general questions: the settings' file, else the package's own."""
    named = reading.model.settings.general.questions
    return reading.model.resolve(named) if named else PACKAGE_QUESTIONS


@dataclass(frozen=True)
class Served:
    """A model folder as the production engine serves it, under ``name``."""

    folder: Path
    name: str
    max_model_len: int
    startup_timeout_s: float


def predict(
    reading: Reading,
    tools: Tools,
    *,
    folder: Path,
    name: str,
    max_model_len: int,
    asking: AskSettings,
    render_question: Callable[[str], str] | None,
) -> Scored:
    """Ask the model in a folder the golden and the general questions, and score the answers."""
    examples, questions = examples_of(reading), read_questions(questions_path(reading))
    general = request_rows(questions, name, render=render_question)
    requests = golden_requests(examples, asking)
    requests += [{**row, "id": f"general:{row['id']}"} for row in general]
    timeout = reading.model.settings.serving.startup_timeout_s
    served = Served(folder, name, max_model_len, timeout)
    answers, latency = ask_served(reading.home / "work", tools, served, requests)
    return Scored(
        task_scores(examples, answers, reading.model.labels()),
        _general_scores(questions, answers),
        latency,
    )


def candidate_asking(name: str, max_new_tokens: int) -> AskSettings:
    """Return how a merged model is asked: its own template carries the instruction."""
    return AskSettings(model=name, base_url="", max_tokens=max_new_tokens)


def golden_requests(examples: Sequence[Example], asking: AskSettings) -> list[dict[str, Any]]:
    """Return one request a golden example."""
    return [
        {
            "id": f"golden:{e.example_id}",
            "path": "/v1/chat/completions",
            "body": chat_body(e.input, asking),
        }
        for e in examples
    ]


def ask_served(
    work: Path, tools: Tools, served: Served, requests: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, str | None], dict[str, float]]:
    """Start the engine, ask, stop it; return answers by request id, and latencies in seconds.

    Raises:
        ValueError: if a request stays without an answer.
    """
    folder = work / "predict" / json_digest([served.name, list(requests)])[:16]
    write_bytes(folder / "requests.jsonl", jsonl_bytes(requests))
    command = engine_command(
        served.folder,
        served.name,
        free_port(),
        cores=None,
        max_model_len=served.max_model_len,
        dtype=DTYPE,
    )
    tools.step(
        "predict",
        {
            "engine": {**asdict(command), "argv": list(command.argv)},
            "requests": str(folder / "requests.jsonl"),
            "output": str(folder / "answers.jsonl"),
            "result": str(folder / "result.json"),
            "concurrency": CONCURRENCY,
            "startup_timeout_s": served.startup_timeout_s,
            "request_timeout_s": 120,
            "retries": 2,
        },
    )
    rows = read_jsonl(folder / "answers.jsonl")
    failed = [row for row in rows if "error" in row]
    if failed:
        raise ValueError(f"request {failed[0]['id']} failed: {failed[0]['error']}")
    answers: dict[str, str | None] = {row["id"]: answer_text(row["response"]) for row in rows}
    times = sorted(row["latency_s"] for row in rows if row["id"].startswith("golden:"))
    return answers, {"p50_s": times[len(times) // 2], "p95_s": times[int(len(times) * 0.95)]}


def task_scores(
    examples: Sequence[Example], answers: Mapping[str, str | None], labels: Sequence[str]
) -> ClassificationScores:
    """Score the answers to the golden requests."""
    predictions = {e.example_id: answers[f"golden:{e.example_id}"] for e in examples}
    return score_classification(examples, predictions, labels)


def _general_scores(
    questions: Sequence[Question], answers: Mapping[str, str | None]
) -> GeneralScores:
    picked = {q.question_id: answers[f"general:{q.question_id}"] for q in questions}
    return score_general(questions, picked)


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
