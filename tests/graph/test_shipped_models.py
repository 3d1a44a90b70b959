"""The shipped domain models are one graph: each a ``defs.yaml`` and data, no code of its own."""

from pathlib import Path

import dagster as dg
import pytest

from ftdm_assets.graph.build import build_definitions, build_plan
from ftdm_assets.graph.evidence import decision
from ftdm_assets.graph.execute import Work, execute
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.model_folder import load_model

SHIPPED = ("order_extraction", "support_tickets")
DATA = frozenset({"raw_labels", "golden_set", "cleaned_dataset"})
# What only makes the data: nothing of the graph reads it.
GENERATORS = ("make_", "order_", "ticket_", "__init__")


def test_they_have_the_same_assets_in_the_ui() -> None:
    defs = dg.Definitions.merge(*(build_definitions(load_model(name)) for name in SHIPPED))
    graph = dg.Definitions.resolve_asset_graph(defs)
    assets = {
        name: {key.path[-1] for key in graph.get_all_asset_keys() if key.path[0] == name}
        for name in SHIPPED
    }
    assert assets["order_extraction"] == assets["support_tickets"]
    assert {*DATA, "adapter", "eval_scores", "deployed_version"} < assets["order_extraction"]


def test_the_folders_hold_no_code_but_what_makes_their_data() -> None:
    for name in SHIPPED:
        modules = [path.name for path in load_model(name).folder.glob("*.py")]
        assert [module for module in modules if not module.startswith(GENERATORS)] == []


@pytest.mark.parametrize("name", ["order_extraction"])
def test_the_shipped_data_passes_what_gates_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    graph = build_plan(load_model(name))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert execute(graph, instance, Work(DATA, frozenset()), "0" * 32) == ""
    reading = reading_of(graph)
    made = decision(graph, reading, tuple(DATA))
    assert [finding.reason for finding in made.refusals] == []
    facts = reading.manifest("cleaned_dataset").facts
    assert facts["dropped"]["wrong_output"] == 30  # All that were planted.
    assert facts["dropped"]["golden_overlap"] > 0
