"""Labels from Argilla 2: a recorded answer of its REST interface, every submitted response a label.

The export is what ``GET /api/v1/datasets/{id}/records?include=responses,suggestions`` returns (one
page, or a list of pages). The export of Argilla's Python client (``records.to_json``) is refused:
it leaves out the status of a response, so that a draft could not be told from an answer.

Invariants:
* Only submitted responses are annotations; drafts, discarded ones and suggestions are none.
* Nothing is skipped in silence: a record or response that lacks what it needs stops the reading.
* Where the export says how many records there are, they have to be there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ftdm_assets.sources.files import RecordDefaults, read_rows
from ftdm_assets.sources.path_source import PathSource
from ftdm_assets.sources.tables import SourceError


class ArgillaSource(PathSource):
    """A recorded export of an Argilla dataset."""

    def frame(self, path: Path) -> pd.DataFrame:
        """Read the submitted responses."""
        settings, where = self.model.settings.labels, str(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"{where}: not valid JSON ({error}); record the export again"
            ) from None
        field, question = settings.argilla.field, settings.argilla.question
        rows = [
            row
            for record in _records(document, where)
            for row in _annotations(record, field, question, where)
        ]
        if not rows:
            raise SourceError(f"{where}: the export holds no submitted response; label first")
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
