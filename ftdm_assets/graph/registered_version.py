"""The registered version: one merged model in the registry, documented, and signed.

Invariants:
* What is registered is the folder that was judged, by digest, with the form that its answers were
  held to when they were scored: production holds them to that, whatever the settings say by then.
* Card and bill of materials are stored beside it, and everything is sealed before it is current.
"""

import json
from typing import Any

from ftdm_assets.graph import sealing
from ftdm_assets.graph.evidence import candidate_nodes
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.graph.training_record import PACKAGES, read_packages
from ftdm_assets.ml_bom import ml_bom
from ftdm_assets.model_card import missing_parts, model_card
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.files import json_bytes
from ftdm_assets.provenance.gate import gate_table
from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.registries import chosen
from ftdm_assets.registries.mlflow_registry import Registration
from ftdm_assets.registries.mlflow_tracking import MLFLOW_RUN
from ftdm_assets.release_settings import RegistrySettings
from ftdm_assets.training_settings import base_model_licence
from ftdm_assets.version_facts import VersionFacts

CARD_FILE, BOM_FILE = "model_card.md", "bom.cdx.json"


def asset(model: ModelFolder, group: str) -> AssetPlan:
    """Return the asset of the registered version."""
    settings = model.settings
    return AssetPlan(
        name="registered_version",
        group=group,
        description="The documented and signed version in the registry, bound to one merged model.",
        build=_build,
        # 3: the version carries the form of its answers.
        version="3",
        config=settings.registry.model_dump(exclude=_left_out(settings.registry)),
        deps=("merged_model", "eval_scores"),
        gated=True,
        kinds=("huggingface",) if settings.registry.kind == "huggingface" else ("mlflow",),
        seal=sealing.seal_version,
    )


def _left_out(registry: RegistrySettings) -> set[str]:
    """Keep the recipe of versions that were registered before there was a choice."""
    return {"repository"} if registry.repository is None else set()


def checks() -> list[CheckPlan]:
    """Return the checks of the registered version."""
    return [
        CheckPlan(
            "registered_version",
            "digests_verify",
            "What is registered is what was judged.",
            _verify,
            overridable=False,
        ),
        CheckPlan(
            "registered_version",
            "documented",
            "A whole model card and a bill of materials of this model are present.",
            _documented,
            version="2",
        ),
        sealing.check(),
    ]


def version_facts(reading: Reading, tools: Tools) -> VersionFacts:
    """Return what is known of the candidate before it is registered."""
    model = reading.model
    nodes = candidate_nodes(reading, ("merged_model", "eval_scores"))
    cleaned = next((n.manifest.digest for n in nodes if n.asset == "cleaned_dataset"), "")
    signed = reading.store.sign_offs(model.name, "cleaned_dataset", cleaned)
    adapter = next(node.manifest for node in nodes if node.asset == "adapter")
    packages = ""
    if PACKAGES in adapter.attachments:
        packages = read_packages(reading.store, adapter.attachments)
    return VersionFacts(
        model=model.name,
        description=model.settings.description,
        labels=() if model.output_form() else model.labels(),
        nodes=nodes,
        merged=reading.digest("merged_model"),
        scores=reading.document("eval_scores"),
        baseline=reading.document("baseline_scores"),
        decision=tools.decision,
        sign_off=signed[-1] if signed else None,
        allowed_data_class=model.settings.cleaning.allowed_data_class,
        licence=base_model_licence(model.settings.base_model),
        packages=packages,
    )


def _build(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    merged = reading.artifact("merged_model")
    known = version_facts(reading, tools)
    scores, baseline = known.scores, known.baseline
    digests = {node.asset: node.manifest.digest for node in known.nodes}
    headline = model.task_kind().headline
    card, bom = model_card(known).encode(), json_bytes(ml_bom(known))
    tools.say("Registering; a first registration takes some seconds longer")
    places = chosen.register(
        model.settings.registry,
        reading.home,
        Registration(
            model=model.name,
            folder=merged.path,
            digest=merged.digest,
            parameters=model.settings.training.model_dump(exclude={"lora"}),
            metrics={
                "accuracy": scores["task"]["accuracy"],
                headline: reading.manifest("eval_scores").facts[headline],
                "general_accuracy": scores["general"]["accuracy"],
                "prompted_accuracy": baseline["prompted"]["accuracy"],
            },
            tags={f"ftdm.{asset}": digest for asset, digest in digests.items()},
            documents={CARD_FILE: card.decode(), BOM_FILE: bom.decode()},
            dagster_run_id=tools.run_id,
            training_run_id=str(known.facts("adapter").get(MLFLOW_RUN, "")),
        ),
    )
    registered = places[0]
    also = {"also_at": [place.uri for place in places[1:]]} if places[1:] else {}
    document = {
        "model": model.name,
        "version": registered.version,
        "number": registered.number,
        "uri": registered.uri,
        "mlflow_run_id": registered.run_id,
        "digest": merged.digest,
        "digests": digests,
        "form": scores["form"],
        **also,
    }
    return Built(
        reading.store.put_document("version", document),
        facts={
            "version": registered.version,
            "merged_digest": merged.digest,
            "uri": registered.uri,
            **also,
        },
        attachments={
            "model_card": reading.store.put_files("model_card", {CARD_FILE: card}),
            "ml_bom": reading.store.put_files("ml_bom", {BOM_FILE: bom}),
        },
        tables={} if tools.decision is None else {"gate": gate_table(tools.decision.findings)},
    )


def _verify(reading: Reading) -> Outcome:
    version = reading.document("registered_version")
    merged = reading.store.find("model", version["digest"])
    computed = reading.store.recompute(merged)
    text = f"the merged model's digest is {computed[:12]}, registered is {version['digest'][:12]}"
    return Outcome(computed == version["digest"], text, {"digest": computed})


def _documented(reading: Reading) -> Outcome:
    card = reading.attachment("registered_version", "model_card").path / CARD_FILE
    bom = reading.attachment("registered_version", "ml_bom").path / BOM_FILE
    document: dict[str, Any] = json.loads(bom.read_bytes())
    merged = reading.document("registered_version")["digest"]
    wrong = [f"the model card lacks {part}" for part in missing_parts(card.read_text("utf-8"))]
    if document["metadata"]["component"]["version"] != merged:
        wrong.append("the bill of materials is of another model")
    parts = len(document["components"])
    text = f"the card is whole, the bill of materials names {parts} components"
    return Outcome(not wrong, "; ".join(wrong) or text, {"components": parts})


def scores_of(reading: Reading, registered: Manifest) -> dict[str, Any]:
    """Return the scores with which a version was registered; newer ones may be of another model."""
    digest = next(ref.digest for ref in registered.inputs if ref.asset == "eval_scores")
    return reading.store.read_document("scores", digest)
