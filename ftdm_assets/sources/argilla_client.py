"""Speaks to an Argilla 2 server: its REST interface over plain HTTP, reading only.

httpx and not Argilla's own client: that one leaves out the status of a response when it lists
records, and has no way to tell a half page.

Invariants:
* A listing is the whole dataset: every page has as many records as its place in the total asks for,
  the total is the same on all of them, and no record comes twice.
* The API key goes into one header and nowhere else: no message, no log, no address holds it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ftdm_assets.label_settings import ArgillaSettings
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.http_json import JsonServer, ServerError
from ftdm_assets.sources.tables import SourceError

_PAGE = 500
_HEADER = "X-Argilla-Api-Key"


class GapError(Exception):
    """A listing is not whole, or is of no single state."""


@dataclass(frozen=True)
class Place:
    """A dataset and its workspace, by their ids."""

    workspace: str
    dataset: str


class ArgillaClient:
    """A session with one server, for one dataset's settings."""

    def __init__(self, settings: ArgillaSettings) -> None:
        key = os.environ.get(settings.token_env, "").strip()
        self.url = settings.url.rstrip("/")
        if not key:
            raise SettingsError(
                f"attributes.labels.argilla.token_env: the environment variable "
                f"{settings.token_env} is not set; copy the API key in {self.url} under My "
                "settings and export it there"
            )
        self._settings = settings
        self._headers = {_HEADER: key}
        self._server = JsonServer(settings, "attributes.labels.argilla")

    def __enter__(self) -> "ArgillaClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def place(self) -> Place:
        """Return where the dataset is that the settings name.

        Raises:
            SourceError: if there is no such workspace, or no such dataset in it.
        """
        named = self._settings
        workspace = self._id("/api/v1/me/workspaces", {}, "workspace", named.workspace)
        asked = {"workspace_id": workspace}
        return Place(workspace, self._id("/api/v1/me/datasets", asked, "dataset", named.dataset))

    def records(self, place: Place) -> list[dict[str, Any]]:
        """Return all records with their responses, by id.

        Raises:
            GapError: if the pages are not whole, or are of several states.
            SourceError: if the server refuses or fails.
        """
        found: dict[str, dict[str, Any]] = {}
        total, offset = None, 0
        while total is None or offset < total:
            items, now = self._page(place, offset)
            if total not in {None, now}:
                raise GapError("it changed while it was read")
            total, wanted = now, min(_PAGE, now - offset)
            if len(items) != wanted:
                raise GapError(
                    f"the page at {offset} has {len(items)} records, {wanted} of {now} belong there"
                )
            found |= {str(item["id"]): item for item in items}
            offset += _PAGE
        if len(found) != total:
            raise GapError(f"its pages hold {len(found)} different records, it counts {total}")
        return [found[key] for key in sorted(found)]

    def users(self, place: Place) -> dict[str, str]:
        """Return the names of the workspace's members by their ids."""
        items = self._items(f"/api/v1/workspaces/{place.workspace}/users", {})
        return {str(user["id"]): str(user["username"]) for user in items}

    def _page(self, place: Place, offset: int) -> tuple[list[dict[str, Any]], int]:
        path = f"/api/v1/datasets/{place.dataset}/records"
        asked = {"include": "responses", "offset": offset, "limit": _PAGE}
        page = self._get(path, asked)
        items, total = self._listed(path, page), page.get("total")
        if not isinstance(total, int) or not all("id" in item for item in items):
            raise self._odd(path)
        return items, total

    def _id(self, path: str, query: Mapping[str, Any], what: str, name: str) -> str:
        items = self._items(path, query)
        found = [str(item["id"]) for item in items if item.get("name") == name]
        if len(found) == 1:
            return found[0]
        there = ", ".join(sorted(repr(item.get("name")) for item in items)) or "none"
        raise SourceError(
            f"{self.url}: no {what} is called {name!r}; this key sees {there}: mend "
            f"attributes.labels.argilla.{what}"
        )

    def _items(self, path: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._listed(path, self._get(path, query))

    def _listed(self, path: str, answer: Any) -> list[dict[str, Any]]:
        items = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self._odd(path)
        return items

    def _odd(self, path: str) -> ServerError:
        return ServerError(f"{self.url}{path}: the answer is none of Argilla 2's; check the server")

    def _get(self, path: str, query: Mapping[str, Any]) -> Any:
        return self._server.repeated(path, lambda: self._ask(path, query))

    def _ask(self, path: str, query: Mapping[str, Any]) -> Any:
        limit = self._server.limit(poll=False)
        status, content = self._server.send("GET", path, limit, query=query, headers=self._headers)
        if status == httpx.codes.UNAUTHORIZED:
            raise SourceError(
                f"{self.url}: the API key in {self._settings.token_env} is not accepted; copy it "
                "again under My settings"
            )
        if status == httpx.codes.FORBIDDEN:
            raise SourceError(
                f"{self.url}{path}: the API key in {self._settings.token_env} may not read that; "
                "take one of an owner, or of an admin of the workspace"
            )
        return self._server.judged(path, status, content)
