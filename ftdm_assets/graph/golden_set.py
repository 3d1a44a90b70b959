"""Stage ``labels``: the golden set, which is never trained on."""

from ftdm_assets.graph import golden_size, outputs
from ftdm_assets.graph.labels import GOLDEN_SOURCE, GROUP, SHOWN, read_golden
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.duplicates import near_pairs
from ftdm_assets.sources.places import place_state


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the golden set."""
    golden = model.settings.golden
    golden_config = golden.model_dump(exclude={"path", "minimum"})
    task, labels = outputs.config(model), model.settings.labels
    return [
        AssetPlan(
            name="golden_set",
            group=GROUP,
            description="Human-verified examples that are never trained on.",
            build=_build_golden,
            version="2",
            config={**golden_config, **task, "labels_only": labels.labels_only},
            sources=lambda m: {
                GOLDEN_SOURCE: place_state(m, m.settings.golden.path, "golden.path")
            },
            source_names=(GOLDEN_SOURCE,),
            kinds=("jsonl",),
        ),
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of the golden set."""
    golden = model.settings.golden
    return [
        CheckPlan("golden_set", "verified", "A person vouches for every example.", _verified),
        CheckPlan(
            "golden_set",
            "size",
            "Large enough that the gates mean something.",
            lambda r: _golden_size(r, golden.minimum),
            {"minimum": golden.minimum},
        ),
        outputs.golden_check(model),
        golden_size.check(model),
        CheckPlan(
            "golden_set",
            "no_self_overlap",
            "No example stands in the set twice, not nearly either.",
            lambda r: _no_self_overlap(r, 0.9),
            {"near_threshold": 0.9},
            severity="warn",
        ),
    ]


def _build_golden(reading: Reading, tools: Tools) -> Built:
    read = read_golden(reading.model)
    vouched = reading.model.settings.golden.verified_by or ""
    rows = [{**e.row(), "verified_by": e.verified_by or vouched} for e in read.examples]
    tools.say(f"{len(rows)} golden examples read")
    repeats = [f"row {row} repeats row {first}" for row, first in sorted(read.repeats.items())]
    return Built(
        reading.store.put_records("golden", rows),
        facts={
            "rows": len(rows),
            **outputs.classes(reading.model, rows),
            "repeated_rows": len(repeats),
            "first_repeated_rows": repeats[:SHOWN],
        },
    )


def _verified(reading: Reading) -> Outcome:
    rows = reading.records("golden_set")
    open_rows = [row["example_id"] for row in rows if not row["verified_by"]]
    measured = {"unverified": len(open_rows), "first": open_rows[:SHOWN]}
    if open_rows:
        return Outcome(
            False,
            f"golden example {open_rows[0]} has no verified_by ({len(open_rows)} in all); let a "
            "person verify it, or name who vouches for the file in attributes.golden.verified_by",
            measured,
        )
    return Outcome(True, f"all {len(rows)} examples are vouched for", measured)


def _golden_size(reading: Reading, minimum: int) -> Outcome:
    rows = int(reading.manifest("golden_set").facts["rows"])
    text = f"{rows} golden examples, at least {minimum} asked for"
    hint = "" if rows >= minimum else "; verify more examples"
    return Outcome(rows >= minimum, text + hint, {"rows": rows})


def _no_self_overlap(reading: Reading, threshold: float) -> Outcome:
    rows = reading.records("golden_set")
    pairs = near_pairs([row["input"] for row in rows], None, threshold)
    named = [
        f"{rows[p.i]['example_id']} ~ {rows[p.j]['example_id']} ({p.similarity:.2f})" for p in pairs
    ]
    text = f"{len(pairs)} pairs are nearly the same" + (
        f": {', '.join(named[:3])}" if named else ""
    )
    return Outcome(not pairs, text, {"pairs": len(pairs), "first": named[:SHOWN]})
