"""Labels from a Label Studio project: one state of it, whole, or a clear error.

The first read is the whole export (5,000 tasks take some ten seconds, page by page twice as long);
later ones fetch only the tasks that have changed and take the others from the mirror
(``label_studio_mirror``). ``state`` costs two small requests, so that polling is cheap.

Invariants:
* A snapshot is one state: the project's counts and its newest change are the same before and after
  the reading, and it holds exactly as many tasks and annotations as the project counts.
* Skipped annotations, drafts and predictions are no labels.
* ``annotator`` is whom the annotation is credited to, ``actor`` who last touched it: any member may
  edit another's annotation, so the two can differ.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import pandas as pd

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.records.contract import LABEL, RAW_COLUMNS, REVIEW
from ftdm_assets.sources.http_json import ServerError
from ftdm_assets.sources.label_studio_client import LabelStudioClient
from ftdm_assets.sources.label_studio_mirror import Mirror, merged
from ftdm_assets.sources.snapshot import Snapshot
from ftdm_assets.sources.tables import SourceError

ROLE_FIELD = "ftdm_role"
LABEL_FIELD = "label"
TEXT_FIELD = "text"
_PAUSE_S = 0.5
# A change is stamped before it is stored: one stamped earlier may show later.
_OVERLAP = timedelta(minutes=1)
# A task of a listing takes more than twice as long as one of the export.
_LISTING_COST = 3


@dataclass(frozen=True)
class ProjectState:
    """What tells two states of a project apart."""

    project: int
    tasks: int
    annotations: int
    skipped: int
    newest: str


@dataclass(frozen=True)
class LabelStudioSource:
    """A Label Studio project."""

    model: ModelFolder

    @property
    def description(self) -> str:
        """Return server and project."""
        settings = self.model.settings.labels.label_studio
        return f"Label Studio {settings.url}, project {settings.project}"

    def state(self) -> str:
        """Return the digest of the project's counts and newest change."""
        with self.client() as client:
            return _digest(project_state(client, client.project_id()))

    def read(self) -> Snapshot:
        """Export the project and return its annotations as the raw frame."""
        with self.client() as client:
            project = client.project_id()
            state, tasks = self._consistent(client, project)
            users = client.users()
        rows = [row for task in tasks for row in self._rows(project, task, users)]
        numbered = [{**row, "row": number} for number, row in enumerate(rows, start=1)]
        return Snapshot(pd.DataFrame(numbered, columns=list(RAW_COLUMNS)), _digest(state))

    def tasks(self) -> list[dict[str, Any]]:
        """Return the project's tasks with their annotations, in one state, by id."""
        with self.client() as client:
            return self._consistent(client, client.project_id())[1]

    def client(self) -> LabelStudioClient:
        """Return a session; the token comes from the environment."""
        return LabelStudioClient(self.model.settings.labels.label_studio)

    def _consistent(
        self, client: LabelStudioClient, project: int
    ) -> tuple[ProjectState, list[dict[str, Any]]]:
        attempts = self.model.settings.labels.label_studio.retries + 1
        mirror = Mirror.of(client.url, project)
        problem = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(_PAUSE_S)
            before = project_state(client, project)
            tasks = None if attempt else _from_mirror(client, before, mirror)
            if tasks is None:
                tasks = client.export(project)
            after = project_state(client, project)
            problem = "it changed while it was read" if before != after else _gap(tasks, after)
            if not problem:
                tasks = sorted(tasks, key=lambda task: int(task["id"]))
                mirror.keep(after.newest, tasks)
                return after, tasks
        raise ServerError(
            f"{self.description}: {problem}, {attempts} times; read it when nobody labels, or "
            "raise attributes.labels.label_studio.retries"
        )

    def _rows(
        self, project: int, task: Mapping[str, Any], users: Mapping[int, str]
    ) -> Iterator[dict[str, Any]]:
        labels = self.model.settings.labels
        place = f"{self.description}, task {task['id']}"
        data, meta = task.get("data") or {}, task.get("meta") or {}
        field = labels.columns.input or TEXT_FIELD
        given = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
        for annotation in sorted(given, key=lambda a: int(a["id"])):
            if not isinstance(data.get(field), str):
                raise SourceError(
                    f"{place}: no text in the field {field!r}; it has {', '.join(data) or 'none'}: "
                    "name the right one in attributes.labels.columns.input"
                )
            annotator = _user(annotation.get("completed_by"), users) or "unknown"
            yield {
                "record_id": f"ls-{project}-{task['id']}-{annotation['id']}",
                "input": data[field],
                "output": _choice(annotation, place),
                "annotator": annotator,
                "annotated_at": str(annotation.get("updated_at") or ""),
                "source": f"label-studio-{project}-{task['id']}",
                "data_class": str(data.get("data_class") or labels.data_class),
                "actor": _user(annotation.get("updated_by"), users) or annotator,
                "role": REVIEW if meta.get(ROLE_FIELD) == REVIEW else LABEL,
            }


def project_state(client: LabelStudioClient, project: int) -> ProjectState:
    """Ask for a project's counts and newest change."""
    counts = client.project(project)
    names = ("task_number", "total_annotations_number", "skipped_annotations_number")
    tasks, annotations, skipped = (int(counts.get(name) or 0) for name in names)
    return ProjectState(project, tasks, annotations, skipped, client.newest(project))


def _from_mirror(
    client: LabelStudioClient, state: ProjectState, mirror: Mirror
) -> list[dict[str, Any]] | None:
    """Return the kept tasks with the changed ones; None where the export is needed, or cheaper."""
    kept = mirror.load()
    if kept is None:
        return None
    since = kept.newest - _OVERLAP
    changed = client.changed(state.project, since, state.tasks // _LISTING_COST)
    tasks = None if changed is None else merged(kept.tasks, changed)
    return None if tasks is None or _gap(tasks, state) else tasks


def _digest(state: ProjectState) -> str:
    return json_digest(asdict(state))


def _gap(tasks: list[dict[str, Any]], state: ProjectState) -> str:
    annotations = [a for task in tasks for a in task.get("annotations") or []]
    skipped = sum(bool(a.get("was_cancelled")) for a in annotations)
    found = (len({task["id"] for task in tasks}), len(annotations) - skipped, skipped)
    counted = (state.tasks, state.annotations, state.skipped)
    names = ("tasks", "annotations", "skipped annotations")
    for name, have, want in zip(names, found, counted, strict=True):
        if have != want:
            return f"the export holds {have} {name}, the project counts {want}"
    return ""


def _choice(annotation: Mapping[str, Any], place: str) -> str:
    """Return the chosen label; blank where nothing was chosen, which the contract reports."""
    items = [i for i in annotation.get("result") or [] if i.get("type") == "choices"]
    named = [item for item in items if item.get("from_name") == LABEL_FIELD] or items
    chosen = [str(c) for item in named for c in (item.get("value") or {}).get("choices") or []]
    if len(chosen) > 1:
        raise SourceError(
            f"{place}, annotation {annotation['id']}: {len(chosen)} choices ({', '.join(chosen)}); "
            'one label is needed: set choice="single" in the labelling interface and relabel'
        )
    return chosen[0] if chosen else ""


def _user(value: Any, users: Mapping[int, str]) -> str:
    """Return an e-mail address: exports name users by id, listings by an object."""
    if isinstance(value, dict):
        return str(value.get("email") or f"user-{value.get('id')}")
    return "" if value is None else users.get(int(value), f"user-{value}")
