"""What a ``defs.yaml`` may say of the dataset: its cleaning, sign-offs, the general mix."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.records.data_classes import DataClass, PersonalData, personal_data_choices
from ftdm_assets.section import Section, Share


class CleaningSettings(Section):
    """What cleaning drops or masks, and what stops the run."""

    max_characters: int = Field(4000, ge=1, examples=[4000])
    near_threshold: Share = Field(0.8, examples=[0.8])
    golden_threshold: Share = Field(0.8, examples=[0.8])
    minimum_consensus: Share = Field(
        0.8,
        gt=0,
        examples=[0.8],
        description="Annotations of one text that give no label this confidence send it to review.",
    )
    label_errors: Literal["drop", "keep"] = Field("drop", examples=["drop"])
    label_error_confidence: Share = Field(0.5, examples=[0.5])
    personal_data: PersonalData = Field(
        "mask", examples=["mask"], description="`refuse` stops the run and names the records."
    )
    personal_data_by_class: dict[DataClass, PersonalData] = Field(
        {},
        examples=[{"public": "refuse"}],
        description="Another choice for records of a data class.",
    )
    allowed_data_class: DataClass = Field(
        "internal", examples=["internal"], description="A record above it stops the run."
    )

    def personal_data_of(self) -> dict[str, PersonalData]:
        """Return the choice for every data class."""
        return personal_data_choices(self.personal_data, self.personal_data_by_class)


class SignOffSettings(Section):
    """A person's look at a random sample of each new cleaned dataset."""

    sample: int = Field(50, ge=1, examples=[50])
    required: bool = Field(
        False, examples=[True], description="Training waits for the sign-off; else it is a warning."
    )
    maximum_error_share: Share = Field(0.05, examples=[0.05])


class AnswerReviewSettings(Section):
    """A person's look at a random sample of the answers in each new set of scores."""

    sample: int = Field(20, ge=1, examples=[20])
    required: bool = Field(
        False, examples=[True], description="Release waits for it; else it is a warning."
    )
    maximum_error_share: Share | None = Field(
        None, examples=[0.1], description="Left out: what the target of right answers leaves."
    )


class GeneralSettings(Section):
    """General ability: the instructions mixed into training, the questions that measure it."""

    instructions: str | None = Field(None, examples=["general_instructions.jsonl"])
    questions: str | None = Field(None, examples=["general_questions.jsonl"])
    lm_eval: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        examples=[["arc_easy", "hellaswag"]],
        description="Tasks of lm-evaluation-harness, asked instead of the questions.",
    )
    limit: int | None = Field(
        None, ge=1, examples=[200], description="Examples of each of these tasks; left out: all."
    )
    lm_eval_folder: str | None = Field(
        None, examples=["tasks"], description="A folder with tasks of your own, as YAML."
    )
    share: Annotated[float, Field(ge=0, le=0.5)] = Field(0.07, examples=[0.07])

    @model_validator(mode="after")
    def _questions_or_tasks(self) -> "GeneralSettings":
        if self.lm_eval is None and (self.limit is not None or self.lm_eval_folder is not None):
            raise PydanticCustomError("needed", "needed", {"key": ["lm_eval"]})
        if self.lm_eval is not None and self.questions is not None:
            raise PydanticCustomError("both", "either questions or lm_eval")
        return self
