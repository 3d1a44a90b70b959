"""General ability by tasks of EleutherAI's lm-evaluation-harness, in two passes around an engine.

The harness makes its requests first, as it would ask a completions endpoint; an engine answers
them with all others; then the harness scores these answers. So the engine that is asked is that of
the golden set, wherever it runs, and the harness is needed only here.

Invariants:
* A request is known by its content: both passes find the same one, whatever their order.
* An example's id holds the digest of its document: a dataset that has changed since has other ids.
* Decoding is greedy. Prompts are tokens, made by the model's own tokenizer; what is too long loses
  its beginning, as in the harness.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from golden.general import GeneralScores, answer_text, prompt_logprobs

METRICS = ("acc", "exact_match", "acc_norm")
_MOST_NEW = 256


class HarnessError(ValueError):
    """The harness cannot be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Tasks:
    """Tasks of the harness.

    Attributes:
        names: the tasks' names.
        limit: take the first so many examples of each; None takes all.
        folder: holds further tasks, as YAML.
    """

    names: tuple[str, ...]
    limit: int | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Model:
    """How a model is asked: its name at the engine, its tokens, and how many of them fit."""

    name: str
    encode: Callable[[str], Sequence[int]]
    context_length: int


def harness_version() -> str:
    """Return the version of the harness that is installed; blank for none."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return ""


def request_rows(tasks: Tasks, model: Model) -> list[dict[str, Any]]:
    """Return what the harness asks: ``{"id", "path", "body"}``.

    Raises:
        HarnessError: if it is not installed, or cannot load the tasks.
    """
    asked: dict[str, dict[str, Any]] = {}

    def ask(kind: str, args: tuple[Any, ...]) -> Any:
        asked[request_id(kind, args)] = _body(kind, args, model)
        return (0.0, False) if kind == "loglikelihood" else ""

    _evaluate(tasks, ask)
    return [{"id": key, "path": "/v1/completions", "body": body} for key, body in asked.items()]


def score(tasks: Tasks, model: Model, responses: Mapping[str, Mapping[str, Any]]) -> GeneralScores:
    """Score the responses by the id of their requests.

    Raises:
        HarnessError: if the harness cannot load the tasks, or has no score of right or wrong.
    """

    def tell(kind: str, args: tuple[Any, ...]) -> Any:
        response = responses[request_id(kind, args)]
        if kind != "loglikelihood":
            return answer_text(response)
        return likelihood(response, len(_pair(args, model)[1]))

    return general_scores(_evaluate(tasks, tell)["samples"])


def request_id(kind: str, args: Sequence[Any]) -> str:
    """Return the id of a request: the digest of what is asked."""
    text = json.dumps([kind, *args], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def likelihood(response: Mapping[str, Any], count: int) -> tuple[float, bool]:
    """Return the log-probability of the last ``count`` tokens, and whether each was the likeliest.

    Raises:
        ValueError: if the response does not tell the prompt's log-probabilities.
    """
    told = prompt_logprobs(response)[-count:]
    return sum(one.logprob for one in told), all(one.rank == 1 for one in told)


def general_scores(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> GeneralScores:
    """Return the harness's samples as scores: each example right or wrong, a task a subject.

    Raises:
        HarnessError: if a task has no such score.
    """
    right: dict[str, bool] = {}
    subjects: dict[str, str] = {}
    for task, rows in sorted(samples.items()):
        for row in rows:
            key = f"{task}:{row['doc_id']}:{row['doc_hash'][:12]}"
            # A task may read one answer in several ways; the first is the one that it is known by.
            if key not in right:
                right[key], subjects[key] = _right(task, row), task
    asked = Counter(subjects.values())
    hits = Counter(subjects[key] for key, hit in right.items() if hit)
    return GeneralScores(
        accuracy=sum(right.values()) / len(right),
        correct=sum(right.values()),
        total=len(right),
        per_subject={task: (hits[task], asked[task]) for task in sorted(asked)},
        per_example=right,
    )


def _right(task: str, row: Mapping[str, Any]) -> bool:
    for name in METRICS:
        if row.get(name) in (0, 1):
            return bool(row[name])
    raise HarnessError(
        f"the task {task} of lm-eval has none of {', '.join(METRICS)} for each example; choose "
        "tasks whose answers are right or wrong"
    )


def _body(kind: str, args: tuple[Any, ...], model: Model) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model.name, "temperature": 0}
    if kind == "loglikelihood":
        context, continuation = _pair(args, model)
        prompt = [*context, *continuation][-(model.context_length - 1) :]
        return {**body, "prompt": prompt, "max_tokens": 1, "prompt_logprobs": 0}
    context, given = args
    until = given.get("until") or []
    most = min(int(given.get("max_gen_toks", _MOST_NEW)), model.context_length // 2)
    prompt = list(model.encode(context))[-(model.context_length - most) :]
    stop = [until] if isinstance(until, str) else list(until)
    return {**body, "prompt": prompt, "max_tokens": most, "stop": stop}


def _pair(args: tuple[Any, ...], model: Model) -> tuple[Sequence[int], Sequence[int]]:
    """Return the tokens of context and continuation; white space between goes with the latter."""
    context, continuation = args
    if not context.strip():
        raise HarnessError("a task of lm-eval gives no context to an answer; choose another task")
    whole = list(model.encode(context + continuation))
    length = len(model.encode(context.rstrip()))
    return whole[:length], whole[length:]


def _evaluate(tasks: Tasks, answer: Callable[[str, tuple[Any, ...]], Any]) -> dict[str, Any]:
    try:
        from golden.lm_harness_model import evaluate
    except ImportError as error:
        raise HarnessError(
            f"general.lm_eval needs lm-evaluation-harness ({error}); `pip install lm_eval`"
        ) from None
    try:
        return evaluate(tasks, answer)
    except HarnessError:
        raise
    except (LookupError, TypeError, ValueError, OSError, NotImplementedError) as error:
        raise HarnessError(
            f"lm-eval cannot run the tasks {', '.join(tasks.names)} ({str(error)[:300]}); see that "
            "the names are right, and that their datasets can be reached"
        ) from error
