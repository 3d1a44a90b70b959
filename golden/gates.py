"""The gates on a golden set's scores: pure functions from stored scores to a judgement.

Invariants:
* The asset's checks and pytest judge by the same functions, with the same defaults.
* A threshold is compared exactly: as the decimal number that a person wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from golden.bootstrap import SEED, paired_bootstrap
from golden.floors import Correction, classes_below
from golden.statistics import exact, mcnemar, points_below, wilson_interval
from golden.tasks import Document, Scores, TaskKind, correctness_of

TARGET_ACCURACY = 0.85
TARGET_FIELD_F1 = 0.9
TARGET_EXACT_MATCH = 0.5
TARGET_ROUGE_L = 0.3
CLASS_FLOOR_RECALL = 0.5
OUTPUT_VALID = 0.98
SHOWN = 5


@dataclass(frozen=True)
class Judgement:
    """What a gate found."""

    passed: bool
    reason: str
    measured: Mapping[str, Any] = field(default_factory=dict)


def right_often_enough(task: Document, target: float) -> Judgement:
    """Judge the share of examples answered right."""
    interval = wilson_interval(task["correct"], task["total"])
    text = (
        f"{task['correct']} of {task['total']} right: {task['accuracy']:.1%} "
        f"(95 %: {interval.low:.1%} to {interval.high:.1%}), target {target:.1%}"
    )
    passed = Fraction(task["correct"], task["total"]) >= exact(target)
    measured = {"accuracy": task["accuracy"], "low": interval.low, "high": interval.high}
    return Judgement(passed, text, measured)


def fields_right(task: Document, target: float) -> Judgement:
    """Judge the micro F1 of an extraction's fields."""
    fields = task["fields"]
    both = fields["expected"] + fields["predicted"]
    passed = not both or Fraction(2 * fields["hits"], both) >= exact(target)
    text = (
        f"field F1 {fields['f1']:.1%} (precision {fields['precision']:.1%}, recall "
        f"{fields['recall']:.1%}, {fields['expected']} fields), target {target:.1%}"
    )
    names = ("f1", "precision", "recall")
    return Judgement(passed, text, {f"field_{name}": fields[name] for name in names})


def like_the_reference(task: Document, target: float) -> Judgement:
    """Judge the mean ROUGE-L of generated texts."""
    text = f"mean ROUGE-L {task['rouge_l']:.3f}, target {target}"
    return Judgement(task["rouge_l"] >= target, text, {"rouge_l": task["rouge_l"]})


def every_class(task: Document, floor: float, correction: Correction, alpha: float) -> Judgement:
    """Judge the recall of every class."""
    counts = {name: (row["recall"], row["support"]) for name, row in task["per_class"].items()}
    whole = {name: (round(recall * n), n) for name, (recall, n) in counts.items()}
    below = classes_below(whole, floor, correction, alpha)
    supported = sum(total > 0 for _, total in whole.values())
    sure = "" if correction == "none" else f" (at {alpha}, corrected by {correction.capitalize()})"
    text = f"{len(below)} of {supported} classes are below a recall of {floor:.0%}{sure}"
    named = ", ".join(f"{one.name} {one.recall:.0%}" for one in sorted(below, key=lambda b: b.name))
    measured = {"below": {one.name: one.recall for one in below}}
    return Judgement(not below, f"{text}: {named}" if below else text, measured)


def valid_often_enough(task: Document, minimum: float, what: str) -> Judgement:
    """Judge how many answers are of the form that the task asks for."""
    share = Fraction(task["total"] - task["invalid"], task["total"])
    text = f"{task['invalid']} of {task['total']} answers are {what}"
    if task.get("abstained"):
        text += f"; {task['abstained']} abstained"
    problems = [row for row in task["per_example"] if row.get("problem")][:SHOWN]
    if problems:
        text += f"; the first, {problems[0]['example_id']}: {problems[0]['problem'][:200]}"
    return Judgement(share >= exact(minimum), text, {"valid_share": float(share)})


def not_worse(before: Document, after: Document, maximum_points: float) -> Judgement:
    """Judge whether a model is worse than another by more points than are allowed."""
    drop = points_below(before["correct"], before["total"], after["correct"], after["total"])
    test = mcnemar(correctness_of(before), correctness_of(after))
    text = (
        f"{float(-drop):+.1f} points against production on the same {test.total} examples "
        f"({test.gained} gained, {test.lost} lost, exact McNemar p = {test.p_value:.3f})"
    )
    measured = {"drop_points": float(drop), "p_value": test.p_value}
    return Judgement(drop <= exact(maximum_points), text, measured)


def better(
    kind: TaskKind[Scores], before: Document, after: Document, alpha: float, seed: int = SEED
) -> Judgement:
    """Judge whether a model is better than another for certain.

    Right or wrong by McNemar's test, the headline score by the paired bootstrap; one of the two at
    half of alpha each (Bonferroni), neither of them worse.
    """
    test = mcnemar(correctness_of(before), correctness_of(after))
    drawn = paired_bootstrap(kind.counts(before), kind.counts(after), kind.headline_of, seed=seed)
    surely = min(test.p_better, drawn.p_better) <= alpha / 2
    passed = surely and test.gained >= test.lost and drawn.difference >= 0
    text = (
        f"{test.gained} examples gained, {test.lost} lost (exact McNemar, better: p = "
        f"{test.p_better:.4f}); {kind.headline} {drawn.difference:+.3f} ({drawn.low:+.3f} to "
        f"{drawn.high:+.3f}, paired bootstrap, better: p = {drawn.p_better:.4f}); "
        f"{alpha / 2} of one of them asked for"
    )
    measured = {
        "gained": test.gained,
        "lost": test.lost,
        "p_better": test.p_better,
        "headline_difference": drawn.difference,
        "headline_low": drawn.low,
        "headline_high": drawn.high,
        "headline_p_better": drawn.p_better,
    }
    return Judgement(passed, text, measured)


def needs_told(needs: Sequence[tuple[str, int]], total: int, hint: str) -> Judgement:
    """Judge whether a golden set has the size that each gate needs."""
    small = [(name, size) for name, size in needs if size > total]
    text = f"{total} golden examples; needed: " + ", ".join(f"{n} {size}" for n, size in needs)
    measured = {"examples": total, "needed": dict(needs)}
    return Judgement(not small, f"{text}; {hint}" if small else text, measured)
