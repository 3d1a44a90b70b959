"""A small graph around the real training stage: from a training set to a registered version.

The steps run in the test's own process, so that the libraries are loaded once; what they do is
what they do in a process of their own.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from ftdm_assets.chat import base_format
from ftdm_assets.graph import training
from ftdm_assets.graph.execute import Work, execute
from ftdm_assets.graph.plan import AssetPlan, Built, GraphPlan, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from gpu_steps.config import parse
from gpu_steps.merge import Merge, merge
from gpu_steps.predict import Predict, predict
from gpu_steps.prepare_base import PrepareBase, prepare
from gpu_steps.reporting import RecordingReporter
from gpu_steps.train import Train, train
from tests.gpu_steps.gpu_tiny import LABELS, TEXTS

ROWS = 24
VERSION = "demo-v0001"
SETTINGS: dict[str, Any] = {
    "task": {"instruction": "Sort.", "taxonomy": LABELS},
    "training": {
        "epochs": 2, "batch_size": 4, "learning_rate": 0.01, "checkpoint_every": 5, "seed": 7,
        "lora": {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    },
    "compute": {"price": {"per_hour": 3600, "currency": "EUR"}},
    "serving": {"max_model_len": 128},
}  # fmt: skip


def run_here(program: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Run a step in this process."""
    content = dict(config)
    if program == "train":
        train(parse(content, Train, "step"), RecordingReporter())
    elif program == "predict":
        predict(parse(content, Predict, "step"), RecordingReporter())
    else:
        assert program == "merge"
        merge(parse(content, Merge, "step"), RecordingReporter())
    return {}


def graph_of(model: ModelFolder, base: Path) -> GraphPlan:
    """Return the graph; training needs no permission here, what was scored is made up."""
    prepared = base.parent / "prepared"
    if not prepared.exists():
        prepare(PrepareBase(f"folder:{base}", prepared), RecordingReporter())
    chat = base_format(prepared).chat(model.settings.task.instruction)

    def training_set(reading: Reading, tools: Tools) -> Built:
        rows = []
        for n in range(ROWS):
            prompt, completion = chat.render(f"{TEXTS[n % 4]} {n}", LABELS[n % 4])
            row = {"record_id": f"r{n}", "prompt": prompt, "completion": completion}
            rows.append({**row, "origin": "domain"})
        template = {"template": chat.template, "end_of_turn": chat.end_of_turn}
        stored = reading.store.put_document("chat_template", template)
        return Built(
            reading.store.put_records("training_set", rows), attachments={"chat_template": stored}
        )

    def golden_set(reading: Reading, tools: Tools) -> Built:
        rows = [
            {
                "example_id": f"g{n}",
                "input": f"{TEXTS[n % 4]} again {n}",
                "output": LABELS[n % 4],
                "verified_by": "jane",
            }
            for n in range(8)
        ]
        return Built(reading.store.put_records("golden_set", rows))

    def base_model(reading: Reading, tools: Tools) -> Built:
        return Built(reading.store.put_folder("model", prepared), facts={"name": "tiny"})

    def scores(reading: Reading, tools: Tools) -> Built:
        document = {"of": reading.digest("merged_model")}
        facts = {"correct": 2, "examples": 8}
        return Built(reading.store.put_document("scores", document), facts=facts)

    def version(reading: Reading, tools: Tools) -> Built:
        merged = reading.digest("merged_model")
        facts = {"version": VERSION, "merged_digest": merged}
        return Built(reading.store.put_document("version", {"digest": merged}), facts=facts)

    real = {plan.name: plan for plan in training.assets(model)}
    scored = {"labels": LABELS, "max_model_len": 128}
    assets = (
        AssetPlan("training_set", "dataset", "", training_set, "1", {}),
        AssetPlan("golden_set", "labels", "", golden_set, "1", {}),
        AssetPlan("base_model", "training", "", base_model, "1", {}),
        replace(real["adapter"], gate_deps=(), gated=False),
        real["merged_model"],
        AssetPlan(
            "eval_scores", "evaluation", "", scores, "1", scored,
            deps=("merged_model", "golden_set"),
        ),
        AssetPlan(
            "registered_version", "release", "", version, "1", {},
            deps=("merged_model", "eval_scores"),
        ),
    )  # fmt: skip
    judged = [check for check in training.checks(model) if check.name == "environment_recorded"]
    return GraphPlan(model, assets, tuple(judged))


def run_graph(graph: GraphPlan, instance: dg.DagsterInstance, *assets: str) -> str:
    """Materialise these assets, or all, with their checks; return the run's id."""
    run_id = str(uuid.uuid4())
    names = frozenset(assets or (plan.name for plan in graph.assets))
    problem = execute(graph, instance, Work(names, frozenset()), run_id)
    assert problem == "", problem
    return run_id
