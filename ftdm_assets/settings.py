"""What a ``defs.yaml`` may say: one domain model, all of it, with defaults for one machine.

Wrong YAML gets the key's path, what was expected, and an example.
"""

import os
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.baseline_settings import BaselineSettings
from ftdm_assets.compute_settings import ComputeSettings
from ftdm_assets.dataset_settings import (
    AnswerReviewSettings,
    CleaningSettings,
    GeneralSettings,
    SignOffSettings,
)
from ftdm_assets.gate_settings import GateSettings, SafetySettings
from ftdm_assets.label_settings import GoldenSettings, LabelSettings
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.release_settings import (
    CanarySettings,
    RegistrySettings,
    SigningSettings,
)
from ftdm_assets.section import Section
from ftdm_assets.serving_settings import ServingSettings
from ftdm_assets.task_settings import TaskSettings
from ftdm_assets.training_settings import BaseModelSettings, TrainingSettings

COMPONENT_TYPE = "ftdm_assets.DomainModel"


class SettingsError(ValueError):
    """A ``defs.yaml`` that cannot be used; the message says which key and what to write."""


class DomainModelSettings(Section):
    """One domain model: from its labels to its canary."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,40}$", examples=["support_tickets"])
    description: str = Field("", examples=["Support tickets into 40 internal categories."])
    task: TaskSettings
    labels: LabelSettings
    golden: GoldenSettings
    cleaning: CleaningSettings = CleaningSettings()
    sign_off: SignOffSettings = SignOffSettings()
    answer_review: AnswerReviewSettings = AnswerReviewSettings()
    general: GeneralSettings = GeneralSettings()
    base_model: BaseModelSettings = BaseModelSettings()
    baseline: BaselineSettings = BaselineSettings()
    training: TrainingSettings = TrainingSettings()
    compute: ComputeSettings = ComputeSettings()
    gates: GateSettings = GateSettings()
    safety: SafetySettings = SafetySettings()
    registry: RegistrySettings = RegistrySettings()
    signing: SigningSettings = SigningSettings()
    serving: ServingSettings = ServingSettings()
    canary: CanarySettings = CanarySettings()

    @model_validator(mode="after")
    def _has_the_probe_that_gates(self) -> "DomainModelSettings":
        if self.baseline.probe_gates and self.task.kind != "classification":
            raise PydanticCustomError(
                "no_probe",
                "no `baseline.probe_gates` with kind {kind}: a linear probe answers with labels "
                "only",
                {"kind": self.task.kind},
            )
        return self

    @model_validator(mode="after")
    def _has_a_form_to_keep(self) -> "DomainModelSettings":
        if self.serving.constrained is not None and self.task.kind == "generation":
            raise PydanticCustomError(
                "no_form", "no `serving.constrained` with kind generation: a text is free"
            )
        return self

    @property
    def constrained(self) -> bool:
        """Return whether answers are held to their form, in evaluation and in production."""
        return self.task.kind != "generation" and self.serving.constrained is not False

    def digest(self) -> str:
        """Return the digest of the whole configuration."""
        return json_digest(self.model_dump(mode="json"))


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        SettingsError: naming file and line, if it is missing, not UTF-8 or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise SettingsError(f"{path}{where}: {problem}; mend the YAML there") from None


def load_settings(path: Path) -> DomainModelSettings:
    """Read and check a ``defs.yaml``.

    Raises:
        SettingsError: one line a mistake: the key's path, what was expected, an example.
    """
    document = read_yaml(path)
    if not isinstance(document, dict) or document.get("type") != COMPONENT_TYPE:
        raise SettingsError(f"{path}: type: expected `type: {COMPONENT_TYPE}` at the top")
    attributes = document.get("attributes")
    if not isinstance(attributes, dict):
        raise SettingsError(f"{path}: attributes: expected a mapping with the model's settings")
    return parse_settings(_with_environment(attributes), str(path))


def parse_settings(attributes: dict[str, Any], where: str) -> DomainModelSettings:
    """Check the attributes of a component.

    Raises:
        SettingsError: one line a mistake.
    """
    try:
        return DomainModelSettings.model_validate(attributes)
    except ValidationError as error:
        lines = [f"{where}: {_explain(dict(item))}" for item in error.errors()]
        raise SettingsError("\n".join(dict.fromkeys(lines))) from None


def _with_environment(value: Any) -> Any:
    """Resolve ``{{ env.NAME }}``, as Dagster does, so that secrets stay out of the file."""
    if isinstance(value, dict):
        return {key: _with_environment(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item) for item in value]
    if isinstance(value, str) and value.startswith("{{ env.") and value.endswith(" }}"):
        return os.environ.get(value[len("{{ env.") : -len(" }}")], "")
    return value


def _explain(error: dict[str, Any]) -> str:
    location = [part for part in error["loc"] if not _is_union_branch(str(part))]
    if error["type"] == "needed":
        location.extend(error["ctx"]["key"])
    path = ".".join(["attributes", *map(str, location)])
    example = _example(location)
    hint = f"; example: `{location[-1]}: {example}`" if example is not None else ""
    if error["type"] == "extra_forbidden":
        fields = _section(location[:-1]).model_fields
        known = ", ".join(field.alias or name for name, field in fields.items())
        return f"{path}: there is no such key; expected one of: {known}"
    if error["type"] in {"missing", "needed"}:
        return f"{path}: this key is needed{hint}"
    expected = str(error["msg"]).removeprefix("Input should be ")
    # What was found is secret, or the whole file.
    if error["type"] in {"secret", "no_probe", "no_form"}:
        return f"{path}: expected {expected}"
    return f"{path}: expected {expected}, found {_without_credentials(error['input'])}{hint}"


def _without_credentials(value: Any) -> str:
    """Return what was found, but for user and password in an address."""
    return re.sub(r"//[^/@\s]*@", "//…@", repr(value))


def _is_union_branch(part: str) -> bool:
    branches = {"str", "int", "list[str]", "dict[str,str]", "constrained-list"}
    return part in branches or part.startswith("literal[")


def _section(location: list[Any]) -> type[BaseModel]:
    section: type[BaseModel] = DomainModelSettings
    for part in location:
        field = section.model_fields.get(str(part))
        if field is None:
            return section
        # A section that may be left out is `Section | None`.
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        section = inner[0] if inner else section
    return section


def _example(location: list[Any]) -> Any:
    if not location:
        return None
    fields = _section(location[:-1]).model_fields
    named = {field.alias or name: field for name, field in fields.items()}
    field = named.get(str(location[-1]))
    return field.examples[0] if field is not None and field.examples else None
