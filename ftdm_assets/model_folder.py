"""A domain model's folder: its ``defs.yaml``, and the files that it names."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.answer_form import form_of
from ftdm_assets.provenance.digests import file_digest
from ftdm_assets.records.structured import OutputForm, text_form
from ftdm_assets.settings import DomainModelSettings, SettingsError, load_settings, read_yaml
from golden.extraction import Extraction, canonical_output
from golden.generation import generation_of, style_of
from golden.json_schema import AnswerSchema, read_schema
from golden.json_values import canonical_text, parse_json
from golden.judge import judge_of
from golden.metrics import Classification
from golden.tables import GoldenError
from golden.tasks import Scores, TaskKind
from golden.taxonomy import taxonomy_of

DEFS = "defs.yaml"


@dataclass(frozen=True)
class ModelFolder:
    """Settings together with the folder that their relative paths start from."""

    settings: DomainModelSettings
    folder: Path

    @property
    def name(self) -> str:
        """Return the domain model's name."""
        return self.settings.name

    def resolve(self, path: str) -> Path:
        """Return a path from ``defs.yaml``, relative ones starting from its folder."""
        return (self.folder / Path(path).expanduser()).resolve()

    def file_digest(self, path: str | None, setting: str) -> str:
        """Return the digest of a file that a setting names; empty when it names none.

        Raises:
            SettingsError: if there is no such file.
        """
        if path is None:
            return ""
        found = self.resolve(path)
        if not found.is_file():
            raise SettingsError(
                f"{self.folder / DEFS}: attributes.{setting}: there is no file {found}; "
                "mend the path or put the file there"
            )
        return file_digest(found)

    def taxonomy(self) -> dict[str, str]:
        """Return the labels and their descriptions; an extraction has none.

        Raises:
            SettingsError: if the taxonomy file is missing or is not a mapping or a list.
        """
        return _taxonomy(self)

    def labels(self) -> list[str]:
        """Return the labels, in the taxonomy's order."""
        return list(self.taxonomy())

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema that the answers of an extraction keep.

        Raises:
            SettingsError: if the file is missing or holds no usable JSON schema.
        """
        named = self.settings.task.answer_schema
        self.file_digest(named, "task.schema")
        try:
            return read_schema(self.resolve(str(named))).document
        except GoldenError as error:
            raise SettingsError(str(error)) from None

    def style(self) -> dict[str, Any]:
        """Return the house style that generated texts keep."""
        return style_of(self.settings.task.model_dump(mode="json"))

    def task_config(self) -> dict[str, Any]:
        """Return what decides how an answer is scored; `task_kind` makes the scorer of it."""
        task = self.settings.task
        if task.kind == "extraction":
            return {"schema": self.schema()}
        if task.kind == "generation":
            judge = {} if task.judge is None else {"judge": task.judge.model_dump()}
            return {"style": self.style(), **judge}
        abstain = {} if task.abstain_label is None else {"abstain_label": task.abstain_label}
        return {"labels": self.labels(), **abstain}

    def answer_form(self) -> dict[str, Any]:
        """Return the form that answers are held to; it is empty where they are free."""
        return form_of({**self.task_config(), "constrained": self.settings.constrained})

    def output_form(self) -> OutputForm | None:
        """Return the form of outputs that are no labels; None where they are."""
        kind = self.settings.task.kind
        if kind == "classification":
            return None
        if kind == "generation":
            return text_form(generation_of(self.style()).problems_of_style)
        schema = AnswerSchema(self.schema())
        return OutputForm(
            parse_json, canonical_text, lambda text: canonical_output(text, schema)[1]
        )

    def task_kind(self) -> TaskKind[Scores]:
        """Return what scores the answers."""
        return task_kind(self.task_config())


def task_kind(config: Mapping[str, Any]) -> TaskKind[Scores]:
    """Return the scorer that a configuration describes, now or as a manifest recorded it."""
    if "schema" in config:
        return Extraction(AnswerSchema(config["schema"]))
    if "style" in config:
        return generation_of(config["style"], judge_of(config))
    return Classification(config["labels"], config.get("abstain_label"))


@functools.lru_cache(maxsize=64)
def _read_taxonomy(path: Path, modified: float) -> dict[str, str]:
    taxonomy = taxonomy_of(read_yaml(path))
    if taxonomy is not None:
        return taxonomy
    raise SettingsError(
        f"{path}: expected `label: description` on each line, or a list; "
        "example: `password_reset: The customer forgot the password.`"
    )


def _taxonomy(model: ModelFolder) -> dict[str, str]:
    taxonomy = model.settings.task.taxonomy
    if taxonomy is None:
        return {}
    if isinstance(taxonomy, dict):
        return taxonomy
    if isinstance(taxonomy, list):
        return dict.fromkeys(taxonomy, "")
    path = model.resolve(taxonomy)
    model.file_digest(taxonomy, "task.taxonomy")
    labels = _read_taxonomy(path, path.stat().st_mtime)
    only = model.settings.labels.labels_only
    return {label: text for label, text in labels.items() if only is None or label in only}


def models_folders() -> list[Path]:
    """Return the folders that hold domain models: the package's, and ``FTDM_MODELS``."""
    folders = [Path(__file__).resolve().parent / "models"]
    extra = os.environ.get("FTDM_MODELS", "")
    folders.extend(Path(part).resolve() for part in extra.split(os.pathsep) if part)
    return folders


def find_models() -> dict[str, Path]:
    """Return the ``defs.yaml`` of every domain model by its folder's name."""
    found: dict[str, Path] = {}
    for folder in models_folders():
        found.update({path.parent.name: path for path in sorted(folder.glob(f"*/{DEFS}"))})
    return found


def load_model(name: str) -> ModelFolder:
    """Load a domain model by name.

    Raises:
        SettingsError: if there is none, or its settings are wrong.
    """
    models = find_models()
    if name not in models:
        known = ", ".join(sorted(models)) or "none"
        raise SettingsError(
            f"there is no domain model {name!r}; there are: {known}; make one with `ftdm new`"
        )
    return load_folder(models[name])


def load_folder(defs: Path) -> ModelFolder:
    """Load a domain model from its ``defs.yaml``.

    Raises:
        SettingsError: if the settings are wrong, or name another model than the folder.
    """
    settings = load_settings(defs)
    if settings.name != defs.parent.name:
        raise SettingsError(
            f"{defs}: attributes.name: expected the folder's name {defs.parent.name!r}, "
            f"found {settings.name!r}"
        )
    return ModelFolder(settings, defs.parent)
