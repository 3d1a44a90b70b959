"""The prompted baseline and the linear probe, in a ``defs.yaml``.

Invariants:
* No secret is a setting: the key of an endpoint stays in the environment, under a name that is
  given here.
* What is left as it is changes no recipe: the scores of models that say nothing stay current.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from ftdm_assets.records.data_classes import DataClass
from ftdm_assets.section import Section, VariableName

_SECRET = re.compile(r"api.?key|secret|passw|credential|authorization", re.IGNORECASE)
_OURS = ("model", "messages", "stream", "response_format")
# What decides the answers; the rest is how they are fetched, and what they cost.
_DECIDING: dict[str, Any] = {
    "shots": True,
    "shots_by": True,
    "sample": True,
    "constrain": True,
    "endpoint": {"url", "model", "body"},
}


def _plain_url(url: str) -> str:
    if "@" in url or "?" in url or "#" in url:
        # `secret`: what was found is not repeated.
        raise PydanticCustomError(
            "secret", "an address without user, password and query: the key comes from `key_env`"
        )
    return url


def _fields_beside_ours(body: dict[str, Any]) -> dict[str, Any]:
    if any(_SECRET.search(name) for name in body):
        raise PydanticCustomError("secret", "no secret: the key comes from `key_env`")
    odd = [name for name in _OURS if name in body]
    if odd:
        raise PydanticCustomError("ours", "no `{name}`, it is set here", {"name": odd[0]})
    return body


def _yaml_off(value: Any) -> Any:
    """Take YAML's `off`, which it reads as false."""
    return "off" if value is False else value


class EndpointSettings(Section):
    """An OpenAI-compatible endpoint whose model is prompted instead of the base model."""

    url: Annotated[str, AfterValidator(_plain_url)] = Field(
        pattern=r"^https?://\S+$", examples=["https://api.example.org/v1"]
    )
    model: str = Field(min_length=1, examples=["a-large-model"])
    key_env: VariableName = Field(
        "FTDM_BASELINE_API_KEY",
        examples=["FTDM_BASELINE_API_KEY"],
        description="The environment variable that holds the key; not set, none is sent.",
    )
    allowed_data_class: DataClass = Field(
        "public",
        examples=["internal"],
        description="Training examples and golden inputs are sent there up to this class.",
    )
    timeout_s: float = Field(60, gt=0, le=3600, examples=[60], description="For one whole answer.")
    retries: int = Field(3, ge=0, le=10, examples=[3])
    concurrency: int = Field(8, ge=1, le=64, examples=[8])
    body: Annotated[dict[str, JsonValue], AfterValidator(_fields_beside_ours)] = Field(
        {},
        examples=[{"max_tokens": None, "max_completion_tokens": 2000, "temperature": None}],
        description="Fields of each request beside ours; null takes one of ours out.",
    )


class TokenPriceSettings(Section):
    """What a million tokens cost; without it an endpoint's cost is not stated."""

    per_million_input_tokens: float = Field(ge=0, examples=[2.5])
    per_million_output_tokens: float = Field(ge=0, examples=[10])
    currency: str = Field(pattern=r"^[A-Z]{3}$", examples=["USD"])


ShotsBy = Literal["fixed", "nearest"]


class BaselineSettings(Section):
    """What fine-tuning has to beat: a good prompt, and a linear probe."""

    endpoint: EndpointSettings | None = Field(
        None, examples=[{"url": "https://api.example.org/v1", "model": "a-large-model"}]
    )
    shots: int = Field(4, ge=0, le=64, examples=[4], description="Training examples in a prompt.")
    shots_by: ShotsBy | None = Field(
        None,
        examples=["nearest"],
        description="`nearest`: those most like the text; `fixed`: the same for all, so that the "
        "engine computes the prompt once. Left out: nearest with an endpoint, else fixed.",
    )
    sample: int | None = Field(
        None, ge=50, examples=[200], description="Ask this many golden examples, drawn by content."
    )
    constrain: Annotated[Literal["auto", "off"], BeforeValidator(_yaml_off)] = Field(
        "auto", examples=["off"], description="Hold answers to labels or schema, where possible."
    )
    price: TokenPriceSettings | None = Field(
        None,
        examples=[
            {
                "per_million_input_tokens": 2.5,
                "per_million_output_tokens": 10,
                "currency": "USD",
            }
        ],
    )
    probe_gates: bool = Field(
        False, examples=[True], description="The target must lie the margin above the probe, too."
    )

    def choice(self) -> ShotsBy:
        """Return how the shots are chosen."""
        return self.shots_by or ("fixed" if self.endpoint is None else "nearest")

    def deciding(self) -> dict[str, Any]:
        """Return what of it decides the answers and is not as it is by default."""
        return self.model_dump(mode="json", include=_DECIDING, exclude_defaults=True)
