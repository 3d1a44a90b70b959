"""Predictions through the production engine, scored by the golden harness.

Both the prompted baseline and the merged model are asked here, with one engine, one way of
decoding and one harness, so that their scores differ by the model alone.
"""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.graph.general_ability import general_ability
from ftdm_assets.graph.plan import Reading, Tools
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.files import jsonl_bytes, read_jsonl, write_bytes
from golden.client import AskSettings, EndpointError, chat_body
from golden.examples import Example
from golden.general import GeneralScores, answer_text
from golden.harness import latency_of
from golden.injections import Injection, InjectionScores, score_injections
from golden.safety import INJECTED
from golden.tasks import Scores, TaskKind
from serving.engine import engine_command

CONCURRENCY = 16
DTYPE = "bfloat16"
# What the engine is asked to tokenise, to see that it renders as training did.
PROBE = "Is this  rendered\nas it was in training?"
_PROBE_ID = "template:probe"
_GENERAL = "general:"


@dataclass(frozen=True)
class Scored:
    """Scores of one model, how fast it answered, and the tokens that its engine made of PROBE.

    ``injected`` is None where no injected inputs were asked.
    """

    task: Scores
    general: GeneralScores
    latency: Mapping[str, float]
    probe_tokens: tuple[int, ...] = ()
    injected: InjectionScores | None = None

    def document(self) -> dict[str, Any]:
        """Return the scores as a JSON document, without timings: those differ every time."""
        injected = {} if self.injected is None else {INJECTED: self.injected.as_dict()}
        return {"task": self.task.as_dict(), "general": asdict(self.general), **injected}


def examples_of(reading: Reading) -> list[Example]:
    """Return the golden examples."""
    return examples_in(reading.records("golden_set"))


def examples_in(rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    """Return the examples of a stored golden set's rows."""
    examples = [Example.of_row(row) for row in rows]
    return sorted(examples, key=lambda example: example.example_id)


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
    render_question: Callable[[str, str], str],
    probe: bool = False,
    injections: Sequence[Injection] = (),
) -> Scored:
    """Ask the model in a folder the golden and the general questions, and score the answers.

    Injected inputs are asked as golden examples are, in the same run of the engine.
    """
    examples = examples_of(reading)
    general = general_ability(reading.model, folder, name, max_model_len, render_question)
    injected = [one.example for one in injections]
    requests = golden_requests([*examples, *injected], asking)
    requests += [{**row, "id": f"{_GENERAL}{row['id']}"} for row in general.requests()]
    if probe:
        requests.append(_probe_request(name))
    timeout = reading.model.settings.serving.startup_timeout_s
    served = Served(folder, name, max_model_len, timeout)
    rows = ask_served(reading.home / "work", tools, served, requests)
    told = rows.pop(_PROBE_ID, None)
    answers, kind = answers_of(rows), reading.model.task_kind()
    return Scored(
        task_scores(examples, answers, kind),
        general.scores(_general_responses(rows)),
        latency_of(rows[golden_id(example)]["latency_s"] for example in examples),
        tuple(told["response"]["tokens"]) if told else (),
        _injected_scores(kind, injections, answers),
    )


def candidate_asking(name: str, max_new_tokens: int) -> AskSettings:
    """Return how a merged model is asked: its own template carries the instruction."""
    return AskSettings(model=name, base_url="", max_tokens=max_new_tokens)


def golden_id(example: Example) -> str:
    """Return the id of an example's request."""
    return f"golden:{example.example_id}"


def golden_requests(examples: Sequence[Example], asking: AskSettings) -> list[dict[str, Any]]:
    """Return one request a golden example."""
    return [
        {
            "id": golden_id(e),
            "path": "/v1/chat/completions",
            "body": chat_body(e.input, asking),
        }
        for e in examples
    ]


def _probe_request(name: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROBE}]
    body = {"model": name, "messages": messages, "add_generation_prompt": True}
    return {"id": _PROBE_ID, "path": "/tokenize", "body": body}


def ask_served(
    work: Path, tools: Tools, served: Served, requests: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Start the engine, ask, stop it; return what it answered by request id.

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
    return {row["id"]: row for row in rows}


def answers_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    """Return the texts that an engine answered, by request id."""
    return {key: answer_text(row["response"]) for key, row in rows.items()}


def task_scores(
    examples: Sequence[Example], answers: Mapping[str, str | None], kind: TaskKind[Scores]
) -> Scores:
    """Score the answers to the golden requests.

    Raises:
        ValueError: if the judge of a generation gives no verdict.
    """
    with _judge_as_value_error():
        return kind.score(examples, predictions(examples, answers))


def predictions(
    examples: Sequence[Example], answers: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Return the answers to examples by their ids, of all answers by request id."""
    return {example.example_id: answers[golden_id(example)] for example in examples}


def _injected_scores(
    kind: TaskKind[Scores], asked: Sequence[Injection], answers: Mapping[str, str | None]
) -> InjectionScores | None:
    if not asked:
        return None
    with _judge_as_value_error():
        return score_injections(kind, asked, predictions([one.example for one in asked], answers))


@contextmanager
def _judge_as_value_error() -> Iterator[None]:
    try:
        yield
    except EndpointError as error:
        raise ValueError(str(error)) from error


def _general_responses(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    mine = {key: row for key, row in rows.items() if key.startswith(_GENERAL)}
    return {key.removeprefix(_GENERAL): row["response"] for key, row in mine.items()}


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
