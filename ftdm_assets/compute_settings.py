"""The machine that trains, in a ``defs.yaml``; nothing here changes what is trained.

Invariant: no secret is a setting. What a container needs to know is kept by its service, under a
name that is given here.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.cluster.settings import IMAGE, Name, PodSettings
from ftdm_assets.section import Section, VariableName

_BUCKET = r"^s3://[a-z0-9.-]{3,63}(/[A-Za-z0-9!_.*'()-]+)*$"
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)


def _no_secret(found: dict[str, str]) -> dict[str, str]:
    for name in found:
        if _SECRET.search(name):
            raise PydanticCustomError(
                "secret",
                "no secret, which {name} seems to be: name it in `secrets`",
                {"name": name},
            )
    return found


Environment = Annotated[
    dict[VariableName, str],
    AfterValidator(_no_secret),
]


class PriceSettings(Section):
    """What an hour of the training machine costs; without it no cost is stated."""

    per_hour: float = Field(ge=0, examples=[2.5])
    currency: str = Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])


class SageMakerSettings(Section):
    """A SageMaker training job. Region and credentials come from the usual AWS environment."""

    image: str = Field(
        pattern=IMAGE,
        examples=["ACCOUNT.dkr.ecr.REGION.amazonaws.com/ftdm-gpu-steps@sha256:DIGEST"],
        description="The image of deploy/Containerfile, by digest: a tag may come to mean another.",
    )
    role: str = Field(
        pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$",
        examples=["arn:aws:iam::111122223333:role/ftdm-training"],
    )
    bucket: str = Field(
        pattern=_BUCKET,
        examples=["s3://BUCKET/ftdm"],
        description="Inputs, checkpoints and outputs lie below it.",
    )
    instance_type: str = Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", examples=["ml.g6e.2xlarge"])
    volume_gb: int = Field(100, ge=1, le=16384, examples=[100])
    max_hours: float = Field(24, gt=0, le=672, examples=[24], description="Then it is stopped.")
    spot: bool = Field(
        False, examples=[True], description="Cheaper; interrupted, it goes on from a checkpoint."
    )
    max_wait_hours: float | None = Field(
        None,
        gt=0,
        le=672,
        examples=[36],
        description="Spot: waiting and training; twice max_hours.",
    )
    volume_kms_key: str | None = Field(None, examples=["alias/ftdm"])
    output_kms_key: str | None = Field(None, examples=["alias/ftdm"])
    subnets: list[str] = Field([], max_length=16, examples=[["subnet-0123456789abcdef0"]])
    security_groups: list[str] = Field([], max_length=5, examples=[["sg-0123456789abcdef0"]])
    network_isolation: bool = Field(False, examples=[True])
    tags: dict[str, str] = Field({}, max_length=30, examples=[{"cost-centre": "1234"}])
    poll_seconds: float = Field(15, gt=0, le=300, examples=[15])
    patience_minutes: float = Field(
        10, gt=0, le=240, examples=[10], description="How long AWS may be out of reach."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "SageMakerSettings":
        if bool(self.subnets) != bool(self.security_groups):
            missing = "security_groups" if self.subnets else "subnets"
            raise PydanticCustomError("needed", "needed", {"key": [missing]})
        if self.max_wait_hours is not None and self.max_wait_hours < self.max_hours:
            raise PydanticCustomError("too_short", "a max_wait_hours of at least max_hours")
        return self


class BucketJobSettings(Section):
    """A job whose container fetches its files from the bucket by itself."""

    image: str = Field(
        pattern=IMAGE,
        examples=["REGISTRY/ftdm-gpu-steps@sha256:DIGEST"],
        description="The image of deploy/Containerfile, by digest: a tag may come to mean another.",
    )
    bucket: str = Field(
        pattern=_BUCKET,
        examples=["s3://BUCKET/ftdm"],
        description="Inputs, checkpoints and outputs lie below it.",
    )
    output_kms_key: str | None = Field(None, examples=["alias/ftdm"])
    secrets: list[Name] = Field(
        [], examples=[["ftdm-bucket"]], description="Names: what they hold becomes variables."
    )
    environment: Environment = Field(
        {}, examples=[{"AWS_DEFAULT_REGION": "eu-west-1"}], description="No secrets."
    )
    poll_seconds: float = Field(15, gt=0, le=300, examples=[15])
    patience_minutes: float = Field(
        10, gt=0, le=240, examples=[10], description="How long the service may be out of reach."
    )


class KubernetesSettings(BucketJobSettings, PodSettings):
    """A Kubernetes Job."""

    max_hours: float = Field(24, gt=0, le=672, examples=[24], description="Then it is stopped.")
    config_maps: list[Name] = Field([], examples=[["ftdm-bucket"]])
    max_wait_hours: float | None = Field(
        None,
        gt=0,
        le=2016,
        examples=[72],
        description="Waiting for nodes and training; twice max_hours.",
    )
    keep_days: float = Field(
        7, gt=0, le=365, examples=[7], description="How long a Job that is over stays to be seen."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "KubernetesSettings":
        if self.max_wait_hours is not None and self.max_wait_hours < self.max_hours:
            raise PydanticCustomError("too_short", "a max_wait_hours of at least max_hours")
        return self


class ModalSettings(BucketJobSettings):
    """A Modal Sandbox. The token comes from MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or its file."""

    gpu: str = Field(pattern=r"^[A-Za-z0-9-]+(:[1-8])?$", examples=["L40S"])
    registry_secret: Name | None = Field(
        None, examples=["registry"], description="Modal's secret to pull a private image with."
    )
    app: Name = Field("ftdm-training", examples=["ftdm-training"])
    modal_environment: str | None = Field(
        None, examples=["main"], description="Of Modal; left out: the token's own."
    )
    region: str | None = Field(None, examples=["eu"])
    cpu: float | None = Field(None, gt=0, le=64, examples=[8])
    memory_mb: int | None = Field(None, ge=128, examples=[65536])
    max_hours: float = Field(
        24, gt=0, le=24, examples=[24], description="Then it is stopped; Modal allows a day."
    )


class ComputeSettings(Section):
    """The machine that trains; nothing here changes what is trained."""

    kind: Literal["local", "sagemaker", "kubernetes", "modal"] = Field("local", examples=["local"])
    sagemaker: SageMakerSettings | None = Field(
        None, examples=[{"image": "IMAGE@sha256:DIGEST", "bucket": "s3://BUCKET/ftdm"}]
    )
    kubernetes: KubernetesSettings | None = Field(
        None, examples=[{"image": "IMAGE@sha256:DIGEST", "bucket": "s3://BUCKET/ftdm"}]
    )
    modal: ModalSettings | None = Field(
        None,
        examples=[{"image": "IMAGE@sha256:DIGEST", "bucket": "s3://BUCKET/ftdm", "gpu": "L40S"}],
    )
    price: PriceSettings | None = Field(None, examples=[{"per_hour": 2.5, "currency": "EUR"}])

    @model_validator(mode="after")
    def _names_its_machine(self) -> "ComputeSettings":
        if self.kind != "local" and getattr(self, self.kind) is None:
            raise PydanticCustomError("needed", "needed", {"key": [self.kind]})
        return self
