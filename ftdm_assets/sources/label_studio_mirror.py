"""A project's tasks as they were last read, so that only what has changed is fetched again.

Invariants:
* A mirror saves time and decides nothing. Every task of the project is either as the mirror holds
  it or among the changed ones; so where mirror and changes together hold as many tasks and
  annotations as the project counts, they are the project. Where they do not, because something
  was deleted, the whole export is read.
* It may be deleted at any time; one that cannot be read is none. Its owner alone can read it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ftdm_assets.home import home
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.files import write_bytes

_TASK = ("id", "data", "meta")
_ANNOTATION = ("id", "was_cancelled", "completed_by", "updated_by", "updated_at", "result")


@dataclass(frozen=True)
class Kept:
    """The newest change that was seen, and the tasks after it."""

    newest: datetime
    tasks: list[dict[str, Any]]


@dataclass(frozen=True)
class Mirror:
    """The kept tasks of one project of one server."""

    path: Path

    @staticmethod
    def of(url: str, project: int) -> "Mirror":
        """Return the mirror of a project; it need not exist."""
        name = json_digest([url, project])[:16]
        return Mirror(home() / "mirrors" / f"label-studio-{name}.json")

    def load(self) -> "Kept | None":
        """Return what was kept."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return Kept(datetime.fromisoformat(found["newest"]), list(found["tasks"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, newest: str, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Keep the tasks of a state that was read whole."""
        document = {"newest": newest, "tasks": [_slim(task) for task in tasks]}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes(self.path, json.dumps(document, ensure_ascii=False).encode())


def merged(
    kept: Iterable[dict[str, Any]], changed: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the kept tasks with the changed ones in their places, by id."""
    tasks = {int(task["id"]): task for task in kept}
    tasks.update((int(task["id"]), task) for task in changed)
    return [tasks[number] for number in sorted(tasks)]


def _slim(task: Mapping[str, Any]) -> dict[str, Any]:
    annotations = [
        {name: annotation.get(name) for name in _ANNOTATION}
        for annotation in task.get("annotations") or []
    ]
    return {**{name: task.get(name) for name in _TASK}, "annotations": annotations}
