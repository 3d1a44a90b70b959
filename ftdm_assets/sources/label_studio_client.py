"""Speaks to a Label Studio server over plain HTTP.

httpx and not the official SDK: the SDK brings OpenCV and pins numpy below what the rest needs, and
its page-by-page listing takes twice as long as the export.

Invariants:
* Reading is repeated a bounded number of times, writing never (an import that was repeated would
  double the tasks).
* The token goes into one header and nowhere else: no message, no log, no address holds it.
"""

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

from ftdm_assets.label_settings import LabelStudioSettings
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.http_json import JsonServer, PassingError, ServerError
from ftdm_assets.sources.tables import SourceError

_PAGE = 100
_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
)


class LabelStudioClient:
    """A session with one server, for one project's settings."""

    def __init__(self, settings: LabelStudioSettings) -> None:
        token = os.environ.get(settings.token_env, "").strip()
        self.url = settings.url.rstrip("/")
        if not token:
            raise SettingsError(
                f"attributes.labels.label_studio.token_env: the environment variable "
                f"{settings.token_env} is not set; make an access token in {self.url} under "
                "Account & Settings and export it there"
            )
        self._server = JsonServer(settings, "attributes.labels.label_studio")
        self._settings = settings
        self._token = token
        self._authorisation = ""

    def __enter__(self) -> "LabelStudioClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    # -- reading ---------------------------------------------------------------------------------

    def project_id(self) -> int:
        """Return the id of the project that the settings name by id or title.

        Raises:
            SourceError: if there is none, or several of that title.
        """
        wanted = self._settings.project
        if isinstance(wanted, int):
            return wanted
        found = self.projects(wanted)
        if len(found) == 1:
            return found[0]
        many = f"{len(found)} projects are" if found else "no project is"
        remedy = "name it by its id" if found else "make it with `ftdm labels init`"
        raise SourceError(f"{self.url}: {many} called {wanted!r}; {remedy}")

    def projects(self, title: str) -> list[int]:
        """Return the ids of the projects of exactly this title."""
        page = self.get("/api/projects/", {"title": title, "page_size": _PAGE}, poll=True)
        return [int(item["id"]) for item in page["results"] if item["title"] == title]

    def project(self, project: int) -> dict[str, Any]:
        """Return a project's description with its counts."""
        found: dict[str, Any] = self.get(f"/api/projects/{project}/", poll=True)
        return found

    def newest(self, project: int) -> str:
        """Return when the project's tasks or annotations last changed; blank without tasks.

        Every change of an annotation (made, edited, skipped, deleted) also touches its task.
        """
        query = json.dumps({"ordering": ["-tasks:updated_at"]})
        page = self.get(
            "/api/tasks/",
            {"project": project, "page": 1, "page_size": 1, "query": query},
            poll=True,
        )
        return str(page["tasks"][0]["updated_at"]) if page["tasks"] else ""

    def export(self, project: int) -> list[dict[str, Any]]:
        """Return all tasks of a project with all their annotations."""
        asked = {"exportType": "JSON", "download_all_tasks": "true"}
        tasks = self.get(f"/api/projects/{project}/export", asked)
        if not isinstance(tasks, list):
            raise ServerError(f"{self.url}: the export is no list of tasks; check the server")
        return tasks

    def changed(self, project: int, since: datetime, most: int) -> list[dict[str, Any]] | None:
        """Return the tasks that changed after a time, or None if there are more than ``most``."""
        late = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime"}
        items = [{**late, "value": since.isoformat().replace("+00:00", "Z")}]
        query = json.dumps({"filters": {"conjunction": "and", "items": items}})
        asked = {"project": project, "page_size": _PAGE, "fields": "all", "query": query}
        found: list[dict[str, Any]] = []
        for page in itertools.count(1):
            answer = self.get("/api/tasks/", {**asked, "page": page})
            found += answer["tasks"]
            if int(answer["total"]) > most:
                return None
            # The last page: one more would be answered with 404.
            if len(found) >= int(answer["total"]) or not answer["tasks"]:
                return found
        return None

    def users(self) -> dict[int, str]:
        """Return the members' e-mail addresses by their ids."""
        return {int(user["id"]): str(user["email"]) for user in self.get("/api/users/")}

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, poll: bool = False) -> Any:
        """Return a JSON answer; ``poll`` is for small answers that a sensor waits for.

        Raises:
            SourceError: when the server refuses, or has failed as often as the settings allow.
        """
        limit = self._server.limit(poll=poll)
        return self._server.repeated(path, lambda: self._ask("GET", path, limit, query=query))

    # -- writing ---------------------------------------------------------------------------------

    def create_project(self, title: str, label_config: str, instruction: str) -> int:
        """Make a project and return its id."""
        body = {
            "title": title,
            "label_config": label_config,
            "expert_instruction": instruction,
            "show_instruction": True,
        }
        return int(self.post("/api/projects/", body)["id"])

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Add tasks to a project.

        Raises:
            SourceError: if the server took fewer than were sent.
        """
        answer = self.post(f"/api/projects/{project}/import", list(tasks))
        if int(answer.get("task_count", 0)) != len(tasks):
            raise ServerError(
                f"{self.url}: of {len(tasks)} tasks sent the server took {answer.get('task_count')}"
                "; run the command again, it sends what is missing"
            )

    def add_webhook(self, project: int, url: str, headers: Mapping[str, str]) -> bool:
        """Let the server call a URL when labels change; return whether it was not there yet."""
        there = self.get("/api/webhooks/", {"project": project}, poll=True)
        if any(hook["url"] == url and hook["is_active"] for hook in there):
            return False
        body = {"project": project, "url": url, "headers": dict(headers), "send_payload": False}
        self.post("/api/webhooks/", {**body, "send_for_all_actions": False, "actions": _ACTIONS})
        return True

    def post(self, path: str, body: Any) -> Any:
        """Send JSON once and return the JSON answer.

        Raises:
            SourceError: when the server refuses or fails.
        """
        try:
            return self._ask("POST", path, self._settings.timeout_s, body=body)
        except PassingError as error:
            raise ServerError(
                f"{self.url}{path}: {error}; run the command again, it sends what is missing"
            ) from error

    # -- one call --------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        limit: float,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Any:
        if not self._authorisation:
            self._authorisation = self._authorise(limit)
        head = {"Authorization": self._authorisation}
        status, content = self._server.send(
            method, path, limit, query=query, body=body, headers=head
        )
        if status == httpx.codes.UNAUTHORIZED:
            self._authorisation = ""
            raise self._not_accepted()
        return self._server.judged(path, status, content)

    def _authorise(self, limit: float) -> str:
        """Return the header; a personal access token (a JWT) is exchanged first."""
        if self._token.count(".") != 2:
            return f"Token {self._token}"
        body = {"refresh": self._token}
        status, content = self._server.send("POST", "/api/token/refresh/", limit, body=body)
        if status in (httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._not_accepted()
        return f"Bearer {self._server.judged('/api/token/refresh/', status, content)['access']}"

    def _not_accepted(self) -> SourceError:
        return SourceError(
            f"{self.url}: the access token in {self._settings.token_env} is not accepted; "
            "make a new one under Account & Settings"
        )
