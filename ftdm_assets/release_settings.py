"""What a ``defs.yaml`` may say of registry, signatures, serving and what watches production."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.section import Points, Section


class RegistrySettings(Section):
    """Where versions are registered."""

    kind: Literal["mlflow", "huggingface", "both"] = Field("mlflow", examples=["mlflow"])
    tracking_uri: str | None = Field(
        None, examples=["http://127.0.0.1:5000"], description="Left out: SQLite in the home folder."
    )
    repository: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$",
        examples=["ORG/NAME"],
        description="A private model repository of the Hugging Face Hub; made if there is none.",
    )

    @model_validator(mode="after")
    def _names_its_repository(self) -> "RegistrySettings":
        if self.kind != "mlflow" and self.repository is None:
            raise PydanticCustomError("needed", "needed", {"key": ["repository"]})
        return self


class SigningSettings(Section):
    """What signs registered versions and overrides: ECDSA on P-256."""

    key: str = Field(
        "home",
        pattern=r"^(home|file:.+|env:[A-Za-z_][A-Za-z0-9_]*|kms:.+)$",
        examples=["kms:alias/ftdm"],
        description="`home` makes a key in the home folder on first use.",
    )


class DrillSettings(Section):
    """The rollback drill: how often, and how long a rollback may take."""

    enabled: bool = True
    schedule: str = Field("30 6 * * 1", examples=["30 6 * * 1"])
    maximum_seconds: float = Field(10, gt=0, examples=[10])


class ResultCacheSettings(Section):
    """Answers that production gives again without computing them."""

    enabled: bool = Field(
        True, examples=[False], description="`false` keeps no answer and joins no requests."
    )
    ttl_s: int = Field(
        86_400, ge=1, le=31_536_000, examples=[3600], description="An answer is kept so long."
    )
    shared: bool | None = Field(
        None,
        examples=[False],
        description="`false`: an answer is given again to the same API key only. Left out: `false` "
        "where `cleaning.allowed_data_class` is `restricted`.",
    )


class ServingSettings(Section):
    """How production serves."""

    replicas: int = Field(2, ge=2, examples=[2])
    max_model_len: int = Field(2048, ge=64, examples=[2048])
    startup_timeout_s: int = Field(300, ge=10, examples=[300])
    constrained: bool | None = Field(
        None,
        examples=[False],
        description="Hold answers to the labels or the schema, in evaluation and in production. "
        "Left out: yes; texts are free.",
    )
    previous: Literal["running", "asleep"] = Field(
        "running",
        examples=["asleep"],
        description="`asleep` frees its accelerator's memory; it wakes for a rollback. Not on CPU.",
    )
    drill: DrillSettings = DrillSettings()
    cache: ResultCacheSettings = ResultCacheSettings()


class CanarySettings(Section):
    """The weekly score of production."""

    schedule: str = Field("0 6 * * 1", examples=["0 6 * * 1"])
    drop_points: Points = Field(5, examples=[5])
    latency_p95_s: float = Field(5, gt=0, examples=[5])
