"""A small graph for tests of the shell: real Dagster, real store, no model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, GraphPlan, Outcome, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.settings import parse_settings


def model_folder(folder: Path, **changes: Any) -> ModelFolder:
    """Return a model whose label file holds numbers, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("labels.jsonl", "golden.jsonl"):
        if not (folder / name).exists():
            (folder / name).write_text("1\n2\n")
    attributes = {
        "name": "demo",
        "task": {"instruction": "Sort.", "taxonomy": ["a", "b"]},
        "labels": {"path": "labels.jsonl"},
        "golden": {"path": "golden.jsonl"},
        **changes,
    }
    return ModelFolder(parse_settings(attributes, "test"), folder)


class Counting:
    """Counts how often each asset was really built."""

    def __init__(self) -> None:
        self.built: dict[str, int] = {}

    def add(self, name: str) -> None:
        self.built[name] = self.built.get(name, 0) + 1


def small_graph(
    model: ModelFolder,
    counting: Counting,
    *,
    minimum: int = 1,
    version: str = "1",
    config: Mapping[str, Any] | None = None,
) -> GraphPlan:
    """Return numbers → total → (gated) release, with a check on the total."""

    def numbers(reading: Reading, tools: Tools) -> Built:
        counting.add("numbers")
        lines = reading.model.resolve("labels.jsonl").read_text().split()
        rows = [{"n": int(line)} for line in lines]
        return Built(reading.store.put_records("dataset", rows), facts={"rows": len(rows)})

    def total(reading: Reading, tools: Tools) -> Built:
        counting.add("total")
        summed = sum(row["n"] for row in reading.records("numbers"))
        return Built(reading.store.put_document("scores", {"total": summed}))

    def release(reading: Reading, tools: Tools) -> Built:
        counting.add("release")
        return Built(reading.store.put_document("version", reading.document("total")))

    def enough(reading: Reading) -> Outcome:
        found = reading.document("total")["total"]
        return Outcome(found >= minimum, f"the total is {found}, {minimum} asked for")

    settings = dict(config or {})
    return GraphPlan(
        model,
        (
            AssetPlan(
                "numbers", "labels", "Numbers.", numbers, version, settings,
                sources=lambda m: {"label_source": m.file_digest("labels.jsonl", "labels.path")},
                source_names=("label_source",),
            ),
            AssetPlan("total", "dataset", "Their total.", total, "1", {}, deps=("numbers",)),
            AssetPlan(
                "release", "release", "Released.", release, "1", {}, deps=("total",), gated=True
            ),
        ),
        (CheckPlan("total", "enough", "Enough.", enough, {"minimum": minimum}),),
    )  # fmt: skip
