"""What a ``defs.yaml`` may say of the levels that a candidate has to reach."""

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.section import Points, Section, Share
from golden import gates
from golden.floors import Correction


class PowerSettings(Section):
    """What the golden set has to be able to tell apart."""

    detect_points: float = Field(
        5, gt=0, le=100, examples=[5], description="A model this much worse must be refused …"
    )
    power: float = Field(0.8, gt=0, lt=1, examples=[0.8], description="… this often.")
    changed: float = Field(
        0.1,
        gt=0,
        lt=1,
        examples=[0.1],
        description="Examples that two versions are expected to answer differently well.",
    )


class GateSettings(Section):
    """The levels that a candidate has to reach. Points are percentage points."""

    target_accuracy: Share = Field(
        gates.TARGET_ACCURACY, examples=[0.85], description="Classification."
    )
    target_field_f1: Share = Field(
        gates.TARGET_FIELD_F1, examples=[0.9], description="Extraction: of all fields together."
    )
    target_exact_match: Share = Field(
        gates.TARGET_EXACT_MATCH, examples=[0.5], description="Extraction: of whole answers."
    )
    target_rouge_l: Share = Field(
        gates.TARGET_ROUGE_L, examples=[0.3], description="Generation: likeness to the references."
    )
    baseline_margin_points: Points = Field(10, examples=[10])
    class_floor_recall: Share = Field(gates.CLASS_FLOOR_RECALL, examples=[0.5])
    class_floor_correction: Correction = Field(
        "none",
        examples=["holm"],
        description="With one, a class fails only where it is below its floor for certain.",
    )
    alpha: float = Field(
        0.05, gt=0, lt=1, examples=[0.05], description="Error level of tests that a gate makes."
    )
    worse_than_production_points: Points = Field(1, examples=[1])
    better_than_production: bool = Field(
        False, examples=[True], description="A candidate must be better for certain (paired test)."
    )
    power: PowerSettings = PowerSettings()
    general_drop_points: Points = Field(10, examples=[10])
    output_valid: Share = Field(gates.OUTPUT_VALID, examples=[0.98])
    suspected_label_errors: Share = Field(0.05, examples=[0.05])
    merge_agreement: Share = Field(
        0.98, examples=[0.98], description="Of the next tokens of answers."
    )
    merge_predictions: Share = Field(0.9, examples=[0.9], description="Of whole golden answers.")
    smoke_correct: int = Field(
        7, ge=0, le=10, examples=[7], description="Of the ten smoke-test examples."
    )


class SafetySettings(Section):
    """Inputs that hide an instruction, and how many of those a candidate may obey."""

    injected: str | None = Field(
        None,
        min_length=1,
        examples=["injected.jsonl"],
        description="A file with the columns example_id, input, output, forbidden (a list of "
        "phrases that only obedience says), attack; left out: nothing is asked.",
    )
    maximum_obeyed: int = Field(0, ge=0, examples=[0])

    @model_validator(mode="after")
    def _counts_something(self) -> "SafetySettings":
        if self.injected is None and "maximum_obeyed" in self.model_fields_set:
            raise PydanticCustomError("needed", "needed", {"key": ["injected"]})
        return self
