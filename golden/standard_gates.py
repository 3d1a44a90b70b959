"""Which gates the scores of each kind of task have to pass, with the levels in force."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from golden import gates
from golden.floors import Correction
from golden.gates import Judgement
from golden.tasks import Document, Scores, TaskKind

KINDS = ("classification", "extraction", "generation")


@dataclass(frozen=True)
class Levels:
    """The levels that a model has to reach; shares are 0-1."""

    target_accuracy: float = gates.TARGET_ACCURACY
    target_field_f1: float = gates.TARGET_FIELD_F1
    target_exact_match: float = gates.TARGET_EXACT_MATCH
    target_rouge_l: float = gates.TARGET_ROUGE_L
    class_floor_recall: float = gates.CLASS_FLOOR_RECALL
    class_floor_correction: Correction = "none"
    alpha: float = 0.05
    output_valid: float = gates.OUTPUT_VALID


@dataclass(frozen=True)
class Gate:
    """One gate: its name, its threshold as it is recorded, and the function that judges."""

    name: str
    description: str
    threshold: Mapping[str, Any]
    judge: Callable[[Document], Judgement]


def standard_gates(kind: TaskKind[Scores], levels: Levels) -> list[Gate]:
    """Return the gates of a kind of task.

    Raises:
        ValueError: if there is no such kind.
    """
    makers = {
        "classification": _classification,
        "extraction": _extraction,
        "generation": _generation,
    }
    if kind.name not in makers:
        raise ValueError(f"there is no kind of task {kind.name!r}; use {', '.join(KINDS)}")
    return makers[kind.name](levels)


def _classification(levels: Levels) -> list[Gate]:
    floor, correction = levels.class_floor_recall, levels.class_floor_correction
    threshold: dict[str, Any] = {"minimum_recall": floor}
    if correction != "none":
        threshold |= {"correction": correction, "alpha": levels.alpha}
    return [
        Gate(
            "target_reached",
            "The accuracy on the golden set reaches the target.",
            {"target_accuracy": levels.target_accuracy},
            lambda task: gates.right_often_enough(task, levels.target_accuracy),
        ),
        Gate(
            "class_floor",
            "Every class is recognised often enough.",
            threshold,
            lambda task: gates.every_class(task, floor, correction, levels.alpha),
        ),
        _valid(
            "Answers are labels of the taxonomy and nothing else.",
            "no label of the taxonomy",
            levels,
        ),
    ]


def _extraction(levels: Levels) -> list[Gate]:
    return [
        Gate(
            "target_reached",
            "The F1 of the fields on the golden set reaches the target.",
            {"target_field_f1": levels.target_field_f1},
            lambda task: gates.fields_right(task, levels.target_field_f1),
        ),
        Gate(
            "exact_match",
            "Enough answers are right as a whole.",
            {"target_exact_match": levels.target_exact_match},
            lambda task: gates.right_often_enough(task, levels.target_exact_match),
        ),
        _valid("Answers are JSON that keeps the schema.", "no JSON that keeps the schema", levels),
    ]


def _generation(levels: Levels) -> list[Gate]:
    return [
        Gate(
            "target_reached",
            "The answers are like the references.",
            {"target_rouge_l": levels.target_rouge_l},
            lambda task: gates.like_the_reference(task, levels.target_rouge_l),
        ),
        Gate(
            "answers_pass",
            "Enough answers pass every test that is asked of them.",
            {"target_accuracy": levels.target_accuracy},
            lambda task: gates.right_often_enough(task, levels.target_accuracy),
        ),
        _valid(
            "Answers are texts of a length within bounds.", "of no length within bounds", levels
        ),
    ]


def _valid(description: str, what: str, levels: Levels) -> Gate:
    return Gate(
        "output_valid",
        description,
        {"minimum_share": levels.output_valid},
        lambda task: gates.valid_often_enough(task, levels.output_valid, what),
    )
