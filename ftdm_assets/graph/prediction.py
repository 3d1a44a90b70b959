"""Predictions through the production engine, scored by the golden harness.

Both the prompted baseline and the merged model are asked here, with one engine, one way of
decoding and one harness, so that their scores differ by the model alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.graph.general_ability import GeneralAbility, general_ability
from ftdm_assets.graph.plan import Reading, Tools
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.files import jsonl_bytes, read_jsonl, write_bytes
from golden.client import AskSettings, EndpointError, example_body
from golden.completion import usage_of
from golden.examples import Example
from golden.general import GeneralScores, answer_text
from golden.injections import Injection, InjectionScores, score_injections
from golden.pace import Pace, pace_of
from golden.safety import INJECTED
from golden.tasks import Scores, TaskKind
from serving.answer_form import Form, fields_of
from serving.engine import engine_command
from serving.health import free_port

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
    pace: Pace
    probe_tokens: tuple[int, ...] = ()
    injected: InjectionScores | None = None

    @property
    def latency(self) -> Mapping[str, float]:
        """Return how long an answer took, in seconds."""
        return self.pace.latency

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
    examples: Sequence[Example] | None = None,
    injections: Sequence[Injection] = (),
    read: Callable[[str], str] = str,
) -> Scored:
    """Ask the model in a folder the golden and the general questions, and score the answers.

    ``examples`` are some of the golden ones; left out, all. Injected inputs are asked as golden
    examples are, in the same run of the engine. ``read`` gives what an answer means.
    """
    examples = examples_of(reading) if examples is None else examples
    general = general_ability(reading.model, folder, name, max_model_len, render_question)
    injected = [one.example for one in injections]
    requests = [*golden_requests([*examples, *injected], asking), *_general_requests(general)]
    if probe:
        requests.append(_probe_request(name))
    served = _served(reading, folder, name, max_model_len)
    rows = ask_served(reading.home / "work", tools, served, requests)
    told = rows.pop(_PROBE_ID, None)
    kind = reading.model.task_kind()
    answers = {key: None if text is None else read(text) for key, text in answers_of(rows).items()}
    return Scored(
        task_scores(examples, answers, kind),
        general.scores(_general_responses(rows)),
        _pace([rows[golden_id(example)] for example in examples]),
        tuple(told["response"]["tokens"]) if told else (),
        _injected_scores(kind, injections, answers),
    )


def general_scores(
    reading: Reading,
    tools: Tools,
    *,
    folder: Path,
    name: str,
    max_model_len: int,
    render_question: Callable[[str, str], str],
) -> GeneralScores:
    """Ask the model in a folder the general questions only."""
    general = general_ability(reading.model, folder, name, max_model_len, render_question)
    served = _served(reading, folder, name, max_model_len)
    rows = ask_served(reading.home / "work", tools, served, _general_requests(general))
    return general.scores(_general_responses(rows))


def progress(tools: Tools, total: int) -> Callable[[int, int], None]:
    """Return what says in the log how many golden examples an endpoint has answered."""
    step = max(total // 5, 1)

    def say(done: int, total: int) -> None:
        if done % step == 0 or done == total:
            tools.say(f"{done} of {total} golden examples answered")

    return say


def _served(reading: Reading, folder: Path, name: str, max_model_len: int) -> Served:
    timeout = reading.model.settings.serving.startup_timeout_s
    return Served(folder, name, max_model_len, timeout)


def _pace(rows: Sequence[Mapping[str, Any]]) -> Pace:
    seconds = [float(row["latency_s"]) for row in rows]
    return pace_of(seconds, CONCURRENCY, [usage_of(row["response"]) for row in rows])


def _general_requests(general: GeneralAbility) -> list[dict[str, Any]]:
    return [{**row, "id": f"{_GENERAL}{row['id']}"} for row in general.requests()]


def candidate_asking(name: str, max_new_tokens: int, form: Form) -> AskSettings:
    """Return how a merged model is asked: its own template carries the instruction.

    Its answers are held to ``form`` as production's are: there the gateway adds these very fields.
    """
    return AskSettings(model=name, base_url="", max_tokens=max_new_tokens, body=fields_of(form))


def golden_id(example: Example) -> str:
    """Return the id of an example's request."""
    return f"golden:{example.example_id}"


def golden_requests(examples: Sequence[Example], asking: AskSettings) -> list[dict[str, Any]]:
    """Return one request a golden example."""
    return [
        {
            "id": golden_id(e),
            "path": "/v1/chat/completions",
            "body": example_body(e, asking),
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
