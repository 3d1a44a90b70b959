"""Labels from Argilla 2, of its server or of a recording: every submitted response is a label.

A recording is what ``GET /api/v1/datasets/{id}/records?include=responses,suggestions`` returns (one
page, or a list of pages). The export of Argilla's Python client (``records.to_json``) is refused:
it leaves out the status of a response, so that a draft could not be told from an answer.

Invariants:
* Only submitted responses are annotations; drafts, discarded ones and suggestions are none.
* Nothing is skipped in silence: a record or response that lacks what it needs stops the reading.
* Where a recording says how many records there are, they have to be there.
* A snapshot of a server is one state: the whole dataset was read twice in a row, and both times it
  was the same. (No single time tells: responses that were logged in bulk touch neither the record
  nor the dataset. So ``state`` reads the whole dataset too.)
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ftdm_assets.label_settings import LabelSettings
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.sources.argilla_client import ArgillaClient, GapError, Place
from ftdm_assets.sources.files import RecordDefaults, read_rows
from ftdm_assets.sources.http_json import ServerError
from ftdm_assets.sources.path_source import PathSource
from ftdm_assets.sources.snapshot import Snapshot
from ftdm_assets.sources.tables import SourceError

_PAUSE_S = 0.5


class ArgillaRecording(PathSource):
    """Recorded records of an Argilla dataset."""

    def frame(self, path: Path) -> pd.DataFrame:
        """Read the submitted responses."""
        where = str(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"{where}: not valid JSON ({error}); record the export again"
            ) from None
        return _frame(_records(document, where), self.model.settings.labels, where)


@dataclass(frozen=True)
class ArgillaServer:
    """A dataset on an Argilla server."""

    model: ModelFolder

    @property
    def description(self) -> str:
        """Return server, workspace and dataset."""
        named = self.model.settings.labels.argilla
        return f"Argilla {named.url}, dataset {named.dataset} in {named.workspace}"

    def state(self) -> str:
        """Return the digest of the dataset's records and responses."""
        with self._client() as client:
            place = client.place()
            return _digest(self._settled(client, place, readings=1))

    def read(self) -> Snapshot:
        """Read the dataset until it was the same twice in a row."""
        with self._client() as client:
            place = client.place()
            records = self._settled(client, place, readings=2)
            names = client.users(place)
        frame = _frame(records, self.model.settings.labels, self.description, names)
        return Snapshot(frame, _digest(records))

    def _client(self) -> ArgillaClient:
        return ArgillaClient(self.model.settings.labels.argilla)

    def _settled(self, client: ArgillaClient, place: Place, readings: int) -> list[dict[str, Any]]:
        """Return the records once so many readings in a row gave the same."""
        attempts = self.model.settings.labels.argilla.retries + readings
        same, before, problem = 0, "", ""
        for _ in range(attempts):
            if problem:
                time.sleep(_PAUSE_S)
            try:
                records = client.records(place)
            except GapError as error:
                problem = str(error)
                continue
            found = _digest(records)
            same = same + 1 if found == before else 1
            if same == readings:
                return records
            problem = "it changed while it was read" if before else problem
            before = found
        raise ServerError(
            f"{self.description}: {problem}, {attempts} readings; read it when nobody labels, or "
            "raise attributes.labels.argilla.retries"
        )


def argilla_source(model: ModelFolder) -> ArgillaRecording | ArgillaServer:
    """Return the source that the settings choose."""
    return ArgillaServer(model) if model.settings.labels.argilla.url else ArgillaRecording(model)


def _digest(records: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()


def _frame(
    records: Sequence[Any],
    settings: LabelSettings,
    where: str,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    rows = [
        {**row, "annotator": (names or {}).get(row["annotator"], row["annotator"])}
        for record in records
        for row in _annotations(record, settings.argilla.field, settings.argilla.question, where)
    ]
    if not rows:
        raise SourceError(f"{where}: there is no submitted response; label first")
    return read_rows(rows, where, RecordDefaults(data_class=settings.data_class))


def _records(document: Any, where: str) -> list[dict[str, Any]]:
    pages = document if isinstance(document, list) else [document]
    records: list[dict[str, Any]] = []
    for page in pages:
        if not isinstance(page, dict) or not isinstance(page.get("items"), list):
            raise SourceError(
                f"{where}: expected Argilla's REST answer, an object with `items`; record "
                "GET /api/v1/datasets/ID/records?include=responses,suggestions"
            )
        records += page["items"]
    totals = {page["total"] for page in pages if isinstance(page.get("total"), int)}
    if totals and totals != {len(records)}:
        raise SourceError(
            f"{where}: the export says {sorted(totals)} records and holds {len(records)}; "
            "record all pages again while nobody adds any"
        )
    return records


def _annotations(record: Any, field: str, question: str, where: str) -> Iterator[dict[str, Any]]:
    try:
        record_id, text = record.get("external_id") or record["id"], record["fields"][field]
        responses = record["responses"]
        if not isinstance(responses, list):
            raise SourceError(
                f"{where}, record {record_id}: the responses have no status, as in an export of "
                "Argilla's Python client; record the REST answer instead"
            )
        for response in responses:
            if response["status"] != "submitted":
                continue
            yield {
                "record_id": f"{record_id}/{response['id']}",
                "input": text,
                "output": response["values"][question]["value"],
                # Argilla keeps the responses of a deleted user without the user.
                "annotator": response["user_id"] or "deleted user",
                "annotated_at": response["updated_at"],
                "source": f"argilla {record.get('dataset_id', '')}".strip(),
            }
    except (KeyError, TypeError, AttributeError) as error:
        known = record.get("id") if isinstance(record, dict) else record
        raise SourceError(
            f"{where}, record {known}: {error} is missing; check labels.argilla.field "
            f"({field!r}) and question ({question!r}), and record responses with the records"
        ) from None
