"""What the prompted baseline is asked: golden examples or a sample of them, each with shots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftdm_assets.graph import prediction
from ftdm_assets.graph.baseline import AnswerForm, HeldBy, json_form, label_form, text_form
from ftdm_assets.graph.plan import Reading
from ftdm_assets.graph.shots import Record, fixed_shots, nearest_shots
from ftdm_assets.model_folder import ModelFolder
from golden.examples import Example, chosen
from golden.json_values import canonical_text, field_counts, parse_json

_MORE_TOKENS = 16
_HOW = {"fixed": "the same for all texts", "nearest": "those most like each text"}


@dataclass(frozen=True)
class Questions:
    """The examples that are asked, and by their ids the training examples shown with each.

    Attributes:
        golden: how many examples the golden set has.
    """

    model: ModelFolder
    examples: Sequence[Example]
    shots: Mapping[str, Sequence[Record]]
    golden: int

    @property
    def max_tokens(self) -> int:
        """Return the tokens that an answer may have."""
        return self.model.settings.task.max_new_tokens + _MORE_TOKENS

    def form(self, held: HeldBy) -> AnswerForm:
        """Return how a model is told to answer."""
        if self.model.settings.task.kind == "extraction":
            schema = self.model.schema()
            return json_form(canonical_text(schema), schema, held)
        if self.model.settings.task.kind == "generation":
            return text_form(self.model.style())
        return label_form(self.model.taxonomy(), held)

    def systems(self, form: AnswerForm) -> dict[str, str]:
        """Return the system message of each example, by its id."""
        instruction = self.model.settings.task.instruction
        return {key: form.prompt(instruction, shots) for key, shots in self.shots.items()}

    def facts(self) -> dict[str, Any]:
        """Say how many are asked, and with what, for manifest and UI."""
        settings = self.model.settings.baseline
        told = f"{settings.shots}, {_HOW[settings.choice()]}" if settings.shots else "none"
        sampled = {} if settings.sample is None else {"golden_examples": self.golden}
        return {"shots": told, **sampled}

    def document(self, form: AnswerForm) -> dict[str, Any]:
        """Return the prompt as it is stored: with its shots, or with their ids by example."""
        if self.model.settings.baseline.choice() == "fixed":
            return {"prompt": next(iter(self.systems(form).values()))}
        ids = {key: [shot["record_id"] for shot in shots] for key, shots in self.shots.items()}
        return {"prompt": form.prompt(self.model.settings.task.instruction, []), "shots": ids}


def questions_of(reading: Reading, records: Sequence[Record]) -> Questions:
    """Return what the golden set, or the sample that the settings ask for, makes of the records."""
    settings, golden = reading.model.settings.baseline, prediction.examples_of(reading)
    examples = sorted(chosen(golden, None, settings.sample), key=lambda one: one.example_id)
    if settings.choice() == "nearest":
        nearest = nearest_shots(records, examples, settings.shots)
        return Questions(reading.model, examples, nearest, len(golden))
    fixed = fixed_shots(records, settings.shots, _covered(reading.model))
    same = {example.example_id: fixed for example in examples}
    return Questions(reading.model, examples, same, len(golden))


def _covered(model: ModelFolder) -> Callable[[str], frozenset[str]]:
    """Return what an output shows: the label that it is, or the fields that it has."""
    if model.settings.task.kind == "extraction":
        return lambda output: frozenset(field_counts(parse_json(output)))
    return lambda output: frozenset({output})
