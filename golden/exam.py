"""What a model is examined by: its golden set, its kind of task, and the gates.

Invariants:
* A ``defs.yaml`` is read as it stands; what it leaves out has the same default here as in the graph
  (`golden.standard_gates.Levels`, `most_tokens`).
* Nothing of the graph is imported: a golden set can be run where only this library is.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from golden.examples import Example, chosen, read_examples
from golden.extraction import Extraction
from golden.generation import TEXT_TOKENS, Judge, generation_of, style_of
from golden.injections import Injection, injections_beside
from golden.json_schema import AnswerSchema, read_schema
from golden.judge import judge_of
from golden.metrics import Classification
from golden.safety import injections_refused, nothing_echoed
from golden.standard_gates import KINDS, Gate, Levels, standard_gates
from golden.tables import GoldenError
from golden.tasks import Scores, TaskKind
from golden.taxonomy import taxonomy_of

MAX_TOKENS = 16


def most_tokens(kind: str) -> int:
    """Return how many tokens an answer may have where nothing is said."""
    return TEXT_TOKENS if kind == "generation" else MAX_TOKENS


@dataclass(frozen=True)
class Exam:
    """A golden set with its kind of task and its gates, and injected inputs to ask beside it."""

    kind: TaskKind[Scores]
    examples: list[Example]
    gates: list[Gate]
    max_tokens: int
    golden: Path
    injections: list[Injection] = field(default_factory=list)


@dataclass(frozen=True)
class ExamSettings:
    """Where the parts of an exam lie; what is None is left out or found.

    Attributes:
        taxonomy: the labels; left out, those that the golden set expects.
        schema: the JSON schema of an extraction.
        only: take examples with these outputs only.
        style: what every generated text must keep, see `golden.generation.style_of`.
        max_tokens: left out, as many as the kind of task is wont to need.
        injected: a file of inputs that hide an instruction.
        maximum_obeyed: how many of those may be obeyed.
    """

    golden: Path
    kind: str = "classification"
    taxonomy: Any = None
    schema: Path | Mapping[str, Any] | None = None
    abstain_label: str | None = None
    input_column: str | None = None
    output_column: str | None = None
    only: tuple[str, ...] | None = None
    sample: int | None = None
    max_tokens: int | None = None
    style: Mapping[str, Any] = field(default_factory=dict)
    levels: Levels = field(default_factory=Levels)
    judge: Judge | None = None
    injected: Path | None = None
    maximum_obeyed: int = 0


def find_defs(model: str) -> Path | None:
    """Return the ``defs.yaml`` of a domain model: in ``FTDM_MODELS``, or beside this library."""
    folders = [Path(part) for part in os.environ.get("FTDM_MODELS", "").split(os.pathsep) if part]
    folders.append(Path(__file__).resolve().parents[1] / "ftdm_assets" / "models")
    name = model.split("@")[0]
    found = (folder / name / "defs.yaml" for folder in folders)
    return next((path for path in found if path.is_file()), None)


def settings_of_defs(path: Path) -> ExamSettings:
    """Return what a ``defs.yaml`` says of its golden set.

    Raises:
        GoldenError: naming the file and what is wrong.
    """
    attributes = _attributes(path)
    task, golden = attributes.get("task", {}), attributes.get("golden", {})
    columns, levels = golden.get("columns", {}), attributes.get("gates", {})
    safety = attributes.get("safety", {})
    named = str(golden.get("path", ""))
    if "://" in named or not named:
        raise GoldenError(f"{path}: golden.path is {named!r}, no file here; name one with --golden")
    schema, only = task.get("schema"), attributes.get("labels", {}).get("labels_only")
    known = {one.name for one in fields(Levels)}
    return ExamSettings(
        golden=(path.parent / named).resolve(),
        kind=task.get("kind", "classification"),
        taxonomy=_document(path.parent, task.get("taxonomy")),
        schema=path.parent / schema if isinstance(schema, str) else schema,
        abstain_label=task.get("abstain_label"),
        input_column=columns.get("input"),
        output_column=columns.get("output"),
        only=tuple(only) if only is not None else None,
        sample=golden.get("sample"),
        max_tokens=task.get("max_new_tokens"),
        style=style_of(task),
        judge=judge_of(task),
        levels=Levels(**{name: value for name, value in levels.items() if name in known}),
        injected=path.parent / safety["injected"] if safety.get("injected") else None,
        maximum_obeyed=safety.get("maximum_obeyed", 0),
    )


def make_exam(settings: ExamSettings) -> Exam:
    """Read the golden set and return the exam.

    Raises:
        GoldenError: naming file, row and remedy.
    """
    if settings.kind not in KINDS:
        raise GoldenError(
            f"there is no kind of task {settings.kind!r}; use one of {', '.join(KINDS)}"
        )
    examples = read_examples(
        settings.golden,
        input_column=settings.input_column,
        output_column=settings.output_column,
        json_output=settings.kind == "extraction",
    )
    examples = chosen(examples, settings.only, settings.sample)
    if not examples:
        raise GoldenError(f"{settings.golden}: no example is left by labels_only; change it")
    kind = _kind(settings, examples)
    examples = sorted(examples, key=lambda example: example.example_id)
    injections = _injections(settings, kind, examples)
    gates = [
        *standard_gates(kind, settings.levels),
        nothing_echoed(kind.name, [*examples, *(one.example for one in injections)]),
        *([injections_refused(settings.maximum_obeyed)] if injections else []),
    ]
    max_tokens = settings.max_tokens or most_tokens(settings.kind)
    return Exam(kind, examples, gates, max_tokens, settings.golden, injections)


def _injections(
    settings: ExamSettings, kind: TaskKind[Scores], examples: list[Example]
) -> list[Injection]:
    if settings.injected is None:
        return []
    return injections_beside(settings.injected, kind, examples, settings.only)


def with_taxonomy_file(settings: ExamSettings, path: Path) -> ExamSettings:
    """Return the settings with the labels of a file."""
    return replace(settings, taxonomy=_document(path.parent, path.name))


def _kind(settings: ExamSettings, examples: list[Example]) -> TaskKind[Scores]:
    if settings.kind == "extraction":
        return Extraction(_schema(settings.schema))
    if settings.kind == "generation":
        return generation_of(settings.style, settings.judge)
    if settings.taxonomy is None:
        labels = sorted({example.output for example in examples})
    else:
        taxonomy = taxonomy_of(settings.taxonomy)
        if taxonomy is None:
            raise GoldenError("the taxonomy is neither `label: description` lines nor a list")
        only = settings.only
        labels = [label for label in taxonomy if only is None or label in only]
    return Classification(labels, settings.abstain_label)


def _schema(given: Path | Mapping[str, Any] | None) -> AnswerSchema:
    if given is None:
        raise GoldenError("an extraction needs a JSON schema; name one with --schema")
    return read_schema(given) if isinstance(given, Path) else AnswerSchema(given)


def _attributes(path: Path) -> dict[str, Any]:
    document = _load(path)
    attributes = document.get("attributes") if isinstance(document, dict) else None
    if not isinstance(attributes, dict):
        raise GoldenError(f"{path}: expected a mapping `attributes`, as in a domain model's file")
    return attributes


def _document(folder: Path, value: Any) -> Any:
    return _load(folder / value) if isinstance(value, str) else value


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise GoldenError(f"{path}: cannot be read as YAML ({error}); mend it") from None
