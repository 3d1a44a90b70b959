"""How the graph speaks of scores by the kind of task: its measure, its target, its pictures."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ftdm_assets import pictures
from ftdm_assets.model_folder import ModelFolder
from golden.tasks import Document


class TaskView:
    """One kind of task as the graph shows it.

    Attributes:
        measure: the name of the score that has the target.
        target: that target, 0-1.
        target_name: the setting that gives it.
    """

    measure: str
    target: float
    target_name: str

    def score(self, task: Document) -> Fraction:
        """Return the score that has the target."""
        raise NotImplementedError

    def pictures(self, task: Document, baseline: Mapping[str, Any]) -> dict[str, bytes]:
        """Draw the scores of the merged model beside those of the baselines."""
        raise NotImplementedError

    def bars(self, scores: Mapping[str, Document]) -> bytes:
        """Draw the score of some models, the last one stressed."""
        values = {name: float(self.score(task)) for name, task in scores.items()}
        return pictures.score_bars(values, self.target, self.measure[0].upper() + self.measure[1:])

    def beside(self, task: Document, baseline: Mapping[str, Any]) -> bytes:
        """Draw the merged model's score beside those of the baselines."""
        return self.bars({**baselines(baseline), "this model": task})


class ClassificationView(TaskView):
    """Accuracy, and who is taken for whom."""

    measure, target_name = "accuracy", "target_accuracy"

    def __init__(self, target: float) -> None:
        self.target = target

    def score(self, task: Document) -> Fraction:
        """Return the accuracy."""
        return Fraction(task["correct"], task["total"])

    def pictures(self, task: Document, baseline: Mapping[str, Any]) -> dict[str, bytes]:
        """Draw confusion matrix and scores."""
        return {
            "confusion matrix": pictures.confusion_matrix(task["confusion"], task["labels"]),
            "scores": self.beside(task, baseline),
        }


class ExtractionView(TaskView):
    """F1 of the fields, together and each."""

    measure, target_name = "field F1", "target_field_f1"

    def __init__(self, target: float) -> None:
        self.target = target

    def score(self, task: Document) -> Fraction:
        """Return the micro F1 of all fields."""
        fields = task["fields"]
        both = fields["expected"] + fields["predicted"]
        return Fraction(2 * fields["hits"], both) if both else Fraction(1)

    def pictures(self, task: Document, baseline: Mapping[str, Any]) -> dict[str, bytes]:
        """Draw every field's F1, and the scores."""
        per_field = {name: entry["f1"] for name, entry in task["per_field"].items()}
        return {"fields": pictures.field_bars(per_field), "scores": self.beside(task, baseline)}


class GenerationView(TaskView):
    """Likeness to the references, and how long the texts are."""

    measure, target_name = "ROUGE-L", "target_rouge_l"

    def __init__(self, target: float) -> None:
        self.target = target

    def score(self, task: Document) -> Fraction:
        """Return the mean ROUGE-L."""
        return Fraction(task["rouge_l"])

    def pictures(self, task: Document, baseline: Mapping[str, Any]) -> dict[str, bytes]:
        """Draw the lengths of the answers, and the scores."""
        lengths = [row["words"] for row in task["per_example"]]
        return {
            "lengths of the answers": pictures.length_histogram(lengths, unit="words"),
            "scores": self.beside(task, baseline),
        }


def task_view(model: ModelFolder) -> TaskView:
    """Return how the graph speaks of a domain model's scores."""
    gates = model.settings.gates
    if model.settings.task.kind == "extraction":
        return ExtractionView(gates.target_field_f1)
    if model.settings.task.kind == "generation":
        return GenerationView(gates.target_rouge_l)
    return ClassificationView(gates.target_accuracy)


def baselines(document: Mapping[str, Any]) -> dict[str, Document]:
    """Return the scores of the baselines that there are, by the name that a person reads."""
    named = {"prompted": document["prompted"], "linear probe": document.get("probe")}
    return {name: task for name, task in named.items() if task is not None}
