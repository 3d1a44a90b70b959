"""What a ``defs.yaml`` may say of registry, signatures and what watches production."""

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


class CanarySettings(Section):
    """The weekly score of production."""

    schedule: str = Field("0 6 * * 1", examples=["0 6 * * 1"])
    drop_points: Points = Field(5, examples=[5])
    latency_p95_s: float = Field(5, gt=0, examples=[5])
