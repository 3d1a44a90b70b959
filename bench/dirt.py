"""What share of the planted dirt of `support_tickets` the cleaning finds, and what it costs.

Run as `python -m bench.dirt`. Copies and originals form clusters of which one row is to survive, so
duplicates are counted by clusters: all but one row of each has to be dropped.
"""

import json
import sys
from collections import defaultdict
from typing import Any

import pandas as pd

from ftdm_assets.graph.labels import read_golden, read_raw
from ftdm_assets.model_folder import load_model
from ftdm_assets.records.clean import CleanResult, CleanSettings, clean

COPIES = {"exact_duplicate", "near_duplicate", "overlap"}


def cleaned() -> tuple[CleanResult, pd.DataFrame, list[dict[str, Any]]]:
    """Clean the shipped tickets by the settings of their ``defs.yaml``."""
    model = load_model("support_tickets")
    raw = read_raw(model)
    golden = {example.example_id: example.input for example in read_golden(model).examples}
    result = clean(raw, golden, CleanSettings(**model.settings.cleaning.model_dump()))
    lines = (model.folder / "dirt_key.jsonl").read_text(encoding="utf-8").splitlines()
    return result, raw, [json.loads(line) for line in lines]


def found_by_kind(result: CleanResult, key: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return (found, planted) by kind."""
    ledger = result.ledger.set_index("record_id")
    dropped = set(ledger.index[ledger["outcome"] == "dropped"])
    masked = set(ledger.index[ledger["masked"].astype(bool)])
    found: dict[str, list[bool]] = defaultdict(list)
    for entry in key:
        kind, record = entry["kind"], entry["record_id"]
        if entry["expected"] == "masked":
            found[kind].append(record in masked or record in dropped)
        elif kind in COPIES:
            found[kind].append(record in dropped or entry["related"] in dropped)
        elif entry["expected"] == "dropped":
            found[kind].append(record in dropped)
    return {kind: (sum(hits), len(hits)) for kind, hits in sorted(found.items())}


def clean_lost(
    result: CleanResult, raw: pd.DataFrame, key: list[dict[str, Any]]
) -> tuple[int, int]:
    """Return how many clean rows were lost (not to a copy of their own), and how many there are."""
    named = {entry["record_id"] for entry in key if entry["expected"] != "kept"}
    ledger = result.ledger.set_index("record_id")
    clean_rows = [record for record in raw["record_id"] if record not in named]
    reasons = ledger.loc[clean_rows]
    lost = reasons[(reasons["outcome"] == "dropped") & ~reasons["reason"].isin(_SETTLED)]
    return len(lost), len(clean_rows)


_SETTLED = {"exact_duplicate", "near_duplicate", "outvoted"}


def main() -> None:
    """Print the table of the README."""
    result, raw, key = cleaned()
    for kind, (found, planted) in found_by_kind(result, key).items():
        sys.stdout.write(f"{kind:16} {found:4} of {planted:4}  {found / planted:6.1%}\n")
    lost, rows = clean_lost(result, raw, key)
    sys.stdout.write(f"clean rows lost  {lost:4} of {rows:4}  {lost / rows:6.1%}\n")


if __name__ == "__main__":
    main()
