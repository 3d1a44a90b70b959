"""What general ability is measured by: questions of a file, or tasks of lm-evaluation-harness."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ftdm_assets.model_folder import DEFS, ModelFolder
from ftdm_assets.provenance.digests import file_digest, folder_digest, json_digest
from ftdm_assets.settings import SettingsError
from ftdm_assets.tokens import TokenCounter
from golden import general, lm_harness
from golden.general import GeneralScores, Question

PACKAGE_QUESTIONS = Path(__file__).resolve().parents[1] / "general" / "questions.jsonl"
Rows = Mapping[str, Mapping[str, Any]]


class GeneralAbility(Protocol):
    """What an engine is asked, and what the responses, by the ids of their requests, come to."""

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests."""

    def scores(self, responses: Rows) -> GeneralScores:
        """Score the responses."""


def questions_path(model: ModelFolder) -> Path:
    """Return the general questions: the settings' file, else the package's own."""
    named = model.settings.general.questions
    return model.resolve(named) if named else PACKAGE_QUESTIONS


def questions_digest(model: ModelFolder) -> str:
    """Return the digest of what general ability is measured by."""
    asked = tasks(model)
    if asked is None:
        return file_digest(questions_path(model))
    own = "" if asked.folder is None else folder_digest(asked.folder)
    version = lm_harness.harness_version()
    return json_digest([list(asked.names), asked.limit, own, version])


def tasks(model: ModelFolder) -> lm_harness.Tasks | None:
    """Return the tasks of the harness that the settings name, or None.

    Raises:
        SettingsError: if the folder of tasks is missing.
    """
    settings = model.settings.general
    if settings.lm_eval is None:
        return None
    folder = model.resolve(settings.lm_eval_folder) if settings.lm_eval_folder else None
    if folder is not None and not folder.is_dir():
        raise SettingsError(
            f"{model.folder / DEFS}: attributes.general.lm_eval_folder: there is no folder "
            f"{folder}; mend the path or put the tasks there"
        )
    return lm_harness.Tasks(tuple(settings.lm_eval), settings.limit, folder)


def general_ability(
    model: ModelFolder, folder: Path, name: str, length: int, render: Callable[[str, str], str]
) -> GeneralAbility:
    """Return what the model in a folder, served as ``name`` with so many tokens, is asked."""
    asked = tasks(model)
    if asked is None:
        return _Questions(general.read_questions(questions_path(model)), name, render)
    counter = TokenCounter(folder)
    return _Tasks(asked, lm_harness.Model(name, counter.prompt_ids, length))


@dataclass(frozen=True)
class _Questions:
    questions: list[Question]
    name: str
    render: Callable[[str, str], str]

    def requests(self) -> list[dict[str, Any]]:
        return general.request_rows(self.questions, self.name, self.render)

    def scores(self, responses: Rows) -> GeneralScores:
        picked = {}
        for question in self.questions:
            ids = [general.request_id(question, number) for number in range(len(question.choices))]
            picked[question.question_id] = general.likeliest(question, [responses[i] for i in ids])
        return general.score_general(self.questions, picked)


@dataclass(frozen=True)
class _Tasks:
    tasks: lm_harness.Tasks
    model: lm_harness.Model

    def requests(self) -> list[dict[str, Any]]:
        return lm_harness.request_rows(self.tasks, self.model)

    def scores(self, responses: Rows) -> GeneralScores:
        return lm_harness.score(self.tasks, self.model, responses)
