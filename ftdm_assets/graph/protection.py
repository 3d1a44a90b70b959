"""What may not be learned from stops the run at the raw snapshot: data class, personal data.

Invariants:
* A record above the allowed data class, or of no known class, fails a blocking check that names
  source, row and remedy; everything downstream asks the gate, so nothing is made from it.
* Where the settings refuse personal data, a record that holds any fails a blocking check.
"""

from typing import Any

import pandas as pd

from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.data_classes import DATA_CLASSES, classes_up_to
from ftdm_assets.records.personal_data import find

ASSET = "raw_labels"
_SHOWN = 5
_UNKNOWN = "unknown"


def data_classes(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how many raw rows each data class has, and where the first of them stand."""
    found: dict[str, dict[str, Any]] = {}
    columns = (frame["data_class"], frame["row"], frame["record_id"])
    for given, row, record_id in zip(*columns, strict=True):
        name = given if given in DATA_CLASSES else _UNKNOWN
        entry = found.setdefault(name, {"rows": 0, "first": []})
        entry["rows"] += 1
        if len(entry["first"]) < _SHOWN:
            entry["first"].append(f"row {row} ({record_id})")
    return dict(sorted(found.items()))


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks on the raw snapshot."""
    allowed = model.settings.cleaning.allowed_data_class
    choices = model.settings.cleaning.personal_data_of()
    made = [
        CheckPlan(
            ASSET,
            "data_class_allowed",
            "No record is of a higher data class than the model may learn from.",
            lambda r: _data_class(r, allowed),
            {"allowed_data_class": allowed},
        )
    ]
    refused = sorted(name for name, choice in choices.items() if choice == "refuse")
    if refused:
        made.append(
            CheckPlan(
                ASSET,
                "personal_data_refused",
                "No record of a class that must not hold personal data holds any.",
                lambda r: _refused(r, refused),
                {"refused_in": refused},
            )
        )
    return made


def _data_class(reading: Reading, allowed: str) -> Outcome:
    facts = reading.manifest(ASSET).facts
    fine = classes_up_to(allowed)
    classes = facts["data_classes"]
    above = {name: entry for name, entry in classes.items() if name not in fine}
    counts = {name: entry["rows"] for name, entry in classes.items()}
    if not above:
        return Outcome(True, f"all {facts['rows']} rows are at most {allowed}", {"rows": counts})
    told = "; ".join(
        f"{entry['rows']} of data class {name}: {', '.join(entry['first'])}"
        f"{' and more' if entry['rows'] > len(entry['first']) else ''}"
        for name, entry in above.items()
    )
    return Outcome(
        False,
        f"{facts['source']} has rows that the model may not learn from (at most {allowed}): "
        f"{told}; take them out at the source, or set attributes.cleaning.allowed_data_class",
        {"rows": counts, "refused": above},
    )


def _refused(reading: Reading, classes: list[str]) -> Outcome:
    rows = [row for row in reading.records(ASSET) if row["data_class"] in classes]
    found = [
        f"{row['record_id']} ({', '.join(sorted({span.kind for span in spans}))})"
        for row in rows
        if (spans := [*find(row["input"]), *find(row["output"])])
    ]
    measured = {"looked_at": len(rows), "records": len(found), "first": found[:_SHOWN]}
    if not found:
        return Outcome(True, f"none of {len(rows)} records holds personal data", measured)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    source = reading.manifest(ASSET).facts["source"]
    return Outcome(
        False,
        f"{source}: records hold personal data, which {', '.join(classes)} records must not: "
        f"{', '.join(sorted(found)[:_SHOWN])}{more}; take it out at the source, or set "
        "attributes.cleaning.personal_data to mask or drop",
        measured,
    )
