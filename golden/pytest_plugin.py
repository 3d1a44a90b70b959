"""``pytest golden --model-url URL --model NAME``: a golden set against any endpoint.

One test an example, one test a gate. All examples are asked once, before the first test, through
`golden.harness.examine`, as the canary asks them; the tests only say what came of it.

Invariants:
* The key is read from the environment and never shown.
* An endpoint that does not answer ends the run with its reason; it is no wrong answer.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from golden.client import AskSettings, EndpointError, ask_blocking
from golden.exam import (
    Exam,
    ExamSettings,
    find_defs,
    make_exam,
    settings_of_defs,
    with_taxonomy_file,
)
from golden.gates import Judgement
from golden.harness import Examination, examine
from golden.injections import score_injections
from golden.judge import JUDGE_KEY, endpoint_judge
from golden.safety import INJECTED
from golden.standard_gates import KINDS, Gate
from golden.tables import GoldenError

UNREACHED = 3
KEY = "FTDM_MODEL_KEY"
_KEPT = pytest.StashKey["Sitting"]()


@dataclass
class Sitting:
    """One exam, taken at most once in a session."""

    exam: Exam
    settings: AskSettings
    report: Path | None
    taken: Examination | None = None
    task: dict[str, Any] = field(default_factory=dict)
    injected: dict[str, Any] = field(default_factory=dict)

    def take(self) -> Examination:
        """Ask the model, once; end the session if it does not answer."""
        if self.taken is None:
            try:
                self.taken = examine(self.exam.kind, self.exam.examples, self.settings)
                self.task = self.taken.scores.as_dict()
                self.injected = self._ask_injected()
            except EndpointError as error:
                pytest.exit(str(error), returncode=UNREACHED)
            except ValueError as error:
                pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
        return self.taken

    def _ask_injected(self) -> dict[str, Any]:
        injections = self.exam.injections
        if not injections:
            return {}
        answers = ask_blocking([one.example for one in injections], self.settings)
        scores = score_injections(self.exam.kind, injections, answers.predictions)
        return {INJECTED: scores.as_dict()}

    def row(self, example_id: str) -> dict[str, Any]:
        """Return how an example was answered."""
        rows: list[dict[str, Any]] = self.task["per_example"]
        return next(row for row in rows if row["example_id"] == example_id)

    def judge(self, gate: Gate) -> Judgement:
        """Judge the scores by a gate."""
        return gate.judge({**self.task, **self.injected})

    def document(self) -> dict[str, Any]:
        """Return the report: scores to the example, gates, latency."""
        taken = self.take()
        judged = {gate.name: self.judge(gate) for gate in self.exam.gates}
        return {
            "model": self.settings.model,
            "model_url": self.settings.base_url,
            "golden": str(self.exam.golden),
            "kind": self.exam.kind.name,
            "headline": {self.exam.kind.headline: taken.scores.headline},
            "answered_by": list(taken.answers.versions),
            "latency": taken.latency,
            "gates": [
                {
                    "gate": gate.name,
                    "threshold": dict(gate.threshold),
                    "passed": judged[gate.name].passed,
                    "reason": judged[gate.name].reason,
                    "measured": dict(judged[gate.name].measured),
                }
                for gate in self.exam.gates
            ],
            "task": self.task,
            **self.injected,
        }


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what names the model and its golden set."""
    group = parser.getgroup("golden", "golden set of a domain model")
    group.addoption("--model-url", help="OpenAI-compatible endpoint, to the /v1: http://HOST/v1")
    group.addoption("--model", help="the model's name there; also names the domain model's folder")
    group.addoption("--defs", type=Path, help="a domain model's defs.yaml, if --model names none")
    group.addoption("--golden", type=Path, help="another golden file (.jsonl, .csv, .parquet)")
    group.addoption("--kind", choices=KINDS, help="kind of task, if no defs.yaml says it")
    group.addoption("--taxonomy", type=Path, help="labels (YAML), if no defs.yaml says them")
    group.addoption("--schema", type=Path, help="JSON schema, if no defs.yaml says it")
    group.addoption("--max-tokens", type=int, help="tokens that an answer may have")
    group.addoption(
        "--system", type=Path, help="a file with a system message, for a prompted model"
    )
    group.addoption("--key-env", default=KEY, help=f"variable that holds the key ({KEY})")
    group.addoption("--concurrency", type=int, default=8, help="requests at a time (8)")
    group.addoption(
        "--wrong-answers",
        choices=("fail", "xfail"),
        default="fail",
        help="whether a wrong answer fails its test; with xfail the gates alone decide",
    )
    group.addoption("--golden-report", type=Path, help="write scores and gates to this JSON file")
    group.addoption("--judge-url", help="endpoint of a judge, for generated texts")
    group.addoption("--judge-model", help="the judge's name there")
    group.addoption("--judge-key-env", default=JUDGE_KEY, help="variable with its key")


def pytest_configure(config: pytest.Config) -> None:
    """Read the golden set before anything is collected.

    Raises:
        UsageError: saying what is missing or wrong.
    """
    if not hasattr(config.option, "model_url"):
        return  # Collected beside other tests, without the options.
    if not (config.option.model_url and config.option.model):
        raise pytest.UsageError("pytest golden needs --model-url URL and --model NAME")
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("pytest golden asks every example once: leave --numprocesses out")
    try:
        config.stash[_KEPT] = _sitting(config.option)
    except (GoldenError, EndpointError) as error:
        raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test an example, and one a gate."""
    sitting = metafunc.config.stash.get(_KEPT, None)
    for name in {"golden_example", "golden_gate"} & set(metafunc.fixturenames):
        if sitting is None:
            metafunc.parametrize(name, [], ids=[])
        elif name == "golden_gate":
            metafunc.parametrize(name, sitting.exam.gates, ids=lambda gate: gate.name)
        else:
            ids = [example.example_id for example in sitting.exam.examples]
            metafunc.parametrize(name, ids, ids=ids)


@pytest.fixture(scope="session")
def golden_sitting(request: pytest.FixtureRequest) -> Sitting:
    """The exam, taken once."""
    sitting = request.config.stash[_KEPT]
    sitting.take()
    return sitting


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    """Write the report, and say the scores in two lines."""
    yield
    sitting = config.stash.get(_KEPT, None)
    if sitting is None or sitting.taken is None:
        return
    document = sitting.document()
    scores, [(name, headline)] = sitting.taken.scores, document["headline"].items()
    terminalreporter.section("golden set")
    terminalreporter.write_line(
        f"{scores.correct} of {scores.total} right ({scores.accuracy:.1%}), {name} {headline:.3f}, "
        f"{scores.invalid} invalid, p95 {document['latency']['p95_s']:.2f} s"
    )
    for gate in document["gates"]:
        told = "passed" if gate["passed"] else "FAILED"
        terminalreporter.write_line(f"{told} {gate['gate']}: {gate['reason']}")
    if sitting.report is not None:
        _write(sitting.report, document)
        terminalreporter.write_line(f"report: {sitting.report}")


def _sitting(option: Any) -> Sitting:
    defs = option.defs or find_defs(option.model)
    if defs is None and option.golden is None:
        raise GoldenError(
            f"there is no domain model {option.model!r}; name its file with --defs, or a golden "
            "set with --golden and --kind"
        )
    settings = settings_of_defs(defs) if defs else ExamSettings(option.golden)
    if option.golden is not None:
        settings = replace(settings, golden=option.golden, sample=None)
    for name in ("kind", "schema", "max_tokens"):
        if getattr(option, name) is not None:
            settings = replace(settings, **{name: getattr(option, name)})
    if option.taxonomy is not None:
        settings = with_taxonomy_file(settings, option.taxonomy)
    if option.judge_url:
        if not option.judge_model:
            raise GoldenError("--judge-url needs --judge-model")
        key = os.environ.get(option.judge_key_env)
        judge = endpoint_judge(AskSettings(option.judge_model, option.judge_url, key))
        settings = replace(settings, judge=judge)
    exam = make_exam(settings)
    asking = AskSettings(
        model=option.model,
        base_url=option.model_url,
        api_key=os.environ.get(option.key_env),
        system=option.system.read_text(encoding="utf-8") if option.system else None,
        concurrency=option.concurrency,
        max_tokens=exam.max_tokens,
    )
    return Sitting(exam, asking, option.golden_report)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)
