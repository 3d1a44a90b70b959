"""Stage ``dataset``: the cleaned dataset, with a ledger that accounts for every raw record."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ftdm_assets import pictures
from ftdm_assets.graph import outputs, sign_off
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.duplicates import contaminated, near_pairs
from ftdm_assets.records.frames import plain_rows
from ftdm_assets.records.personal_data import find

GROUP = "dataset"
_LISTED = 100


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the cleaned dataset."""
    return [
        AssetPlan(
            name="cleaned_dataset",
            group=GROUP,
            description="Normalised, deduplicated, decontaminated, de-noised records, with a "
            "ledger that accounts for every raw record.",
            build=_build_cleaned,
            version="5",
            config={
                **model.settings.cleaning.model_dump(),
                **(outputs.config(model) if model.output_form() else {}),
                "sign_off_sample": model.settings.sign_off.sample,
            },
            deps=("raw_labels", "golden_set"),
            gated=True,
            kinds=("jsonl",),
        ),
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of the cleaned dataset."""
    cleaning = model.settings.cleaning
    return [
        CheckPlan(
            "cleaned_dataset",
            "ledger_complete",
            "Every raw record stands in the ledger exactly once.",
            _ledger_complete,
        ),
        CheckPlan(
            "cleaned_dataset",
            "no_duplicates",
            "No two kept records are nearly the same.",
            lambda r: _no_duplicates(r, cleaning.near_threshold),
            {"near_threshold": cleaning.near_threshold},
        ),
        CheckPlan(
            "cleaned_dataset",
            "no_golden_overlap",
            "No kept record is near a golden example.",
            lambda r: _no_golden_overlap(r, cleaning.golden_threshold),
            {"golden_threshold": cleaning.golden_threshold},
            version="2",
        ),
        outputs.cleaned_check(model),
        CheckPlan(
            "cleaned_dataset",
            "personal_data",
            "No personal data beyond what the settings allow.",
            lambda r: _personal_data(r, cleaning.personal_data_of()),
            {"personal_data": cleaning.personal_data_of()},
        ),
        sign_off.check(model),
    ]


def raw_frame(reading: Reading) -> pd.DataFrame:
    """Return the raw snapshot as the frame that cleaning takes, with its rows numbered."""
    frame = pd.DataFrame(reading.records("raw_labels"))
    return frame.assign(row=range(1, len(frame) + 1))


def clean_settings(model: ModelFolder) -> CleanSettings:
    """Return the settings of the cleaning."""
    return CleanSettings(**model.settings.cleaning.model_dump())


def _build_cleaned(reading: Reading, tools: Tools) -> Built:
    raw = raw_frame(reading)
    golden = {row["example_id"]: row["input"] for row in reading.records("golden_set")}
    form = reading.model.output_form()
    result = clean(raw, golden, clean_settings(reading.model), judge_labels=form is None, form=form)
    digests = dict(zip(raw["record_id"], raw["digest"], strict=True))
    columns = [name for name in result.records.columns if name not in {"row", "digest"}]
    kept = [
        {**row, "raw_digest": digests[row["record_id"]]}
        for row in plain_rows(result.records[columns])
    ]
    ledger = [
        {**row, "raw_digest": digests[row["record_id"]]}
        for row in plain_rows(result.ledger.drop(columns="row"))
    ]
    reasons = Counter(row["reason"] for row in ledger if row["outcome"] == "dropped")
    masked = sum(bool(row["masked"]) for row in ledger if row["outcome"] == "kept")
    tools.say(f"{len(kept)} of {len(raw)} records kept; dropped: {dict(reasons)}")
    artifact = reading.store.put_records("dataset", kept)
    return Built(
        artifact,
        facts={
            **sign_off.sample_facts(reading.model, artifact.digest, len(kept)),
            "rows": len(kept),
            "raw_rows": len(raw),
            "dropped": dict(sorted(reasons.items())),
            "masked": masked,
            "golden_overlaps": [_overlap(row) for row in ledger if _is_golden(row)][:_LISTED],
            "suspects": len(result.suspects),
            "to_review": len(result.review),
            "reliability": dict(result.reliability.by_annotator),
        },
        attachments={
            "ledger": reading.store.put_records("ledger", ledger),
            "suspects": reading.store.put_records("suspects", [vars(s) for s in result.suspects]),
            "review_items": reading.store.put_records(
                "review_items", [item.row() for item in result.review]
            ),
        },
        pictures={
            **outputs.balance(raw, kept, form),
            "reasons for dropping": pictures.drop_reasons(reasons, len(kept)),
            "lengths": pictures.length_histogram([len(row["input"]) for row in kept]),
        },
    )


def _is_golden(row: Mapping[str, Any]) -> bool:
    return str(row["reason"]).startswith("golden_")


def _overlap(row: Mapping[str, Any]) -> str:
    return f"{row['record_id']} ~ {row['lost_to']} ({row['similarity']:.2f})"


def _ledger_complete(reading: Reading) -> Outcome:
    raw = Counter(row["digest"] for row in reading.records("raw_labels"))
    ledger = reading.attached_records("cleaned_dataset", "ledger")
    written = Counter(row["raw_digest"] for row in ledger)
    kept = sum(row["outcome"] == "kept" for row in ledger)
    rows = len(reading.records("cleaned_dataset"))
    odd = sum(((raw - written) + (written - raw)).values())
    measured = {"raw": sum(raw.values()), "ledger": len(ledger), "kept": kept, "unaccounted": odd}
    against = {"raw_labels": reading.digest("raw_labels")}
    passed = odd == 0 and kept == rows
    text = f"{len(ledger)} ledger rows for {sum(raw.values())} raw records, {kept} kept"
    return Outcome(passed, text if passed else f"{text}: {odd} unaccounted for", measured, against)


def _no_duplicates(reading: Reading, threshold: float) -> Outcome:
    rows = reading.records("cleaned_dataset")
    pairs = near_pairs([row["input"] for row in rows], None, threshold)
    named = [f"{rows[p.i]['record_id']} ~ {rows[p.j]['record_id']}" for p in pairs[:5]]
    text = f"{len(pairs)} pairs at or above {threshold}"
    return Outcome(not pairs, text, {"pairs": len(pairs), "first": named})


def _no_golden_overlap(reading: Reading, threshold: float) -> Outcome:
    rows, golden = reading.records("cleaned_dataset"), reading.records("golden_set")
    pairs = contaminated([r["input"] for r in rows], [g["input"] for g in golden], threshold)
    named = [f"{rows[p.i]['record_id']} ~ {golden[p.j]['example_id']}" for p in pairs[:5]]
    return Outcome(
        not pairs,
        f"{len(pairs)} kept records are at or above {threshold} to a golden example",
        {"pairs": len(pairs), "first": named},
        {"golden_set": reading.digest("golden_set")},
    )


def _personal_data(reading: Reading, choices: Mapping[str, str]) -> Outcome:
    rows = reading.records("cleaned_dataset")
    found = [row for row in rows if find(row["input"])]
    odd = [row["record_id"] for row in found if choices[row["data_class"]] != "keep"]
    text = f"{len(found)} kept records hold personal data, {len(odd)} of them against the settings"
    return Outcome(not odd, text, {"records": len(found), "first": odd[:5]})
