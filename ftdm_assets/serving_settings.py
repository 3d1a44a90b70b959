"""How production serves, in a ``defs.yaml``: on this machine, or on a Kubernetes cluster."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.cluster.settings import IMAGE, Name, PodSettings, Quantity
from ftdm_assets.section import Section


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


class ServingPodSettings(PodSettings):
    """The replicas of every version as pods."""

    engine_image: str = Field(
        pattern=IMAGE,
        examples=["REGISTRY/ftdm-engine@sha256:DIGEST"],
        description="vLLM with our admission: target `engine` of deploy/serving.Containerfile.",
    )
    gateway_url: str = Field(
        pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$",
        examples=["http://ftdm-gateway.serving.svc.cluster.local:8321"],
        description="Where smoke test and canary ask: the gateway of deploy/kubernetes/serving.",
    )
    home_claim: Name = Field(
        "ftdm-home",
        examples=["ftdm-home"],
        description="The volume claim of FTDM_HOME; pods read evidence, trust and weights there.",
    )
    namespace: Name = Field("serving", examples=["serving"])
    gpus: int = Field(
        1, ge=0, le=1, examples=[1], description="An engine runs in one process, on one GPU."
    )
    disk: Quantity = Field("100Gi", examples=["100Gi"], description="The pod's copy of the model.")
    cluster_domain: str = Field(
        "cluster.local", pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", examples=["cluster.local"]
    )
    poll_seconds: float = Field(2, gt=0, le=60, examples=[2])
    patience_minutes: float = Field(
        5, gt=0, le=240, examples=[5], description="How long the cluster may be out of reach."
    )


class ServingSettings(Section):
    """How production serves."""

    platform: Literal["local", "kubernetes"] = Field("local", examples=["kubernetes"])
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
    kubernetes: ServingPodSettings | None = Field(
        None,
        examples=[
            {
                "engine_image": "REGISTRY/ftdm-engine@sha256:DIGEST",
                "gateway_url": "http://ftdm-gateway.serving.svc.cluster.local:8321",
            }
        ],
    )

    @model_validator(mode="after")
    def _names_its_cluster(self) -> "ServingSettings":
        if self.platform == "kubernetes" and self.kubernetes is None:
            raise PydanticCustomError("needed", "needed", {"key": ["kubernetes"]})
        return self
