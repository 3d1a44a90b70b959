"""What a ``defs.yaml`` may say of the task: its kind, its instruction and its answers."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.section import Section, Share, VariableName
from golden.exam import MAX_TOKENS, most_tokens
from golden.judge import JUDGE_KEY
from golden.standard_gates import KINDS

Phrase = Annotated[str, Field(pattern=r"\S")]


class JudgeSettings(Section):
    """A judge of generated texts: an OpenAI-compatible endpoint, its key in the environment."""

    url: str = Field(pattern=r"^https?://[^@\s]+$", examples=["https://judge.example.org/v1"])
    model: str = Field(min_length=1, examples=["a-large-model"], description="Its name there.")
    key_env: VariableName = Field(
        JUDGE_KEY,
        examples=[JUDGE_KEY],
        description="The environment variable that holds the key, if one is needed.",
    )


class TaskSettings(Section):
    """What the model does: the instruction that its chat template carries, and its answers."""

    kind: Literal["classification", "extraction", "generation"] = Field(
        "classification", examples=["classification"]
    )
    instruction: str = Field(
        min_length=1, examples=["Sort the customer's ticket into one category."]
    )
    taxonomy: str | list[str] | dict[str, str] | None = Field(
        None,
        examples=["taxonomy.yaml"],
        description="A YAML file of `label: description`, or the labels themselves.",
    )
    abstain_label: str | None = Field(
        None, min_length=1, examples=["unsure"], description='The answer "I do not say".'
    )
    # The field has its own name because pydantic keeps `schema` for itself.
    answer_schema: str | None = Field(
        None,
        alias="schema",
        examples=["schema.json"],
        description="Extraction: the JSON-schema file that answers keep.",
    )
    required_phrases: list[Phrase] | None = Field(
        None, examples=[["Kind regards"]], description="Generation: what every text must hold."
    )
    forbidden_phrases: list[Phrase] | None = Field(
        None, examples=[["unfortunately"]], description="Generation: what no text may hold."
    )
    minimum_words: int | None = Field(
        None, ge=1, examples=[5], description="Generation: the least length of a text."
    )
    maximum_words: int | None = Field(
        None, ge=1, examples=[80], description="Generation: the most length of a text."
    )
    minimum_rouge_l: Share | None = Field(
        None, examples=[0.2], description="Generation: an answer less like its reference is wrong."
    )
    judge: JudgeSettings | None = Field(
        None,
        examples=[{"url": "https://judge.example.org/v1", "model": "a-large-model"}],
        description="Generation: asked of every answer whether it is good enough.",
    )
    max_new_tokens: int = Field(
        MAX_TOKENS,
        ge=1,
        le=4096,
        examples=[16],
        description=f"Left out with kind generation: {most_tokens('generation')}.",
    )

    @model_validator(mode="before")
    @classmethod
    def _tokens_of_its_kind(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("kind") not in KINDS:
            return values
        return {"max_new_tokens": most_tokens(values["kind"]), **values}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "TaskSettings":
        given = {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
        }
        others = [key for kind, keys in _OWN_KEYS.items() if kind != self.kind for key in keys]
        odd = [key for key in others if given[key] is not None]
        if odd:
            raise PydanticCustomError(
                "other_kind", "no `{key}` with kind {kind}", {"key": odd[0], "kind": self.kind}
            )
        needed = {"extraction": "schema", "classification": "taxonomy"}.get(self.kind)
        if needed and given[needed] is None:
            raise PydanticCustomError("needed", "needed", {"key": [needed]})
        if (self.maximum_words or math.inf) < (self.minimum_words or 1):
            raise PydanticCustomError("length", "maximum_words of minimum_words or more")
        return self


_OWN_KEYS = {
    "classification": ("taxonomy", "abstain_label"),
    "extraction": ("schema",),
    "generation": (
        "required_phrases",
        "forbidden_phrases",
        "minimum_words",
        "maximum_words",
        "minimum_rouge_l",
        "judge",
    ),
}
