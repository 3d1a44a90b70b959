"""Stage ``release``: the registered version and the deployed version.

Invariants:
* Nothing is registered or deployed while a gating check of the candidate or of an ancestor has
  not passed, in whichever run it was made.
* A new version takes over only after it is healthy and has passed its smoke test; until then, and
  whenever something fails, production serves what it served.
"""

from collections.abc import Callable
from typing import Any

from ftdm_assets.graph import prediction
from ftdm_assets.graph.evidence import candidate_nodes, decision
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, GraphPlan, Outcome, Reading, Tools
from ftdm_assets.model_card import model_card
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.environment import now
from ftdm_assets.registries import chosen
from ftdm_assets.registries.mlflow_registry import Registration, RegistryError
from ftdm_assets.registries.mlflow_tracking import MLFLOW_RUN
from ftdm_assets.settings import RegistrySettings
from golden.client import AskSettings, EndpointError, ask_blocking
from serving import deployment, stack
from serving.pointer import PointerStore
from serving.versions import Move

GROUP = "release"
SMOKE_EXAMPLES = 10


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the assets of this stage."""
    settings = model.settings
    return [
        AssetPlan(
            name="registered_version",
            group=GROUP,
            description="The documented version in the registry, bound to one merged model.",
            build=_build_registered,
            version="1",
            config=settings.registry.model_dump(exclude=_left_out(settings.registry)),
            deps=("merged_model", "eval_scores"),
            gated=True,
            kinds=("huggingface",) if settings.registry.kind == "huggingface" else ("mlflow",),
        ),
        AssetPlan(
            name="deployed_version",
            group=GROUP,
            description="The version that production serves on at least two replicas; the "
            "previous one is kept warm.",
            build=_build_deployed,
            version="1",
            config=settings.serving.model_dump(),
            deps=("registered_version",),
            memoised=False,
            gated=True,
            kinds=("vllm",),
        ),
    ]


def _left_out(registry: RegistrySettings) -> set[str]:
    """Keep the recipe of versions that were registered before there was a choice."""
    return {"repository"} if registry.repository is None else set()


def checks(model: ModelFolder, graph: Callable[[], GraphPlan]) -> list[CheckPlan]:
    """Return the checks of this stage."""
    correct = model.settings.gates.smoke_correct
    return [
        CheckPlan(
            "registered_version",
            "digests_verify",
            "What is registered is what was judged.",
            _verify,
        ),
        CheckPlan("registered_version", "documented", "A model card is present.", _documented),
        CheckPlan(
            "deployed_version",
            "smoke_test",
            "Ten golden examples against the running endpoint.",
            lambda r: _smoke_check(r, correct),
            {"minimum_correct": correct, "examples": SMOKE_EXAMPLES},
        ),
        CheckPlan(
            "deployed_version",
            "all_verdicts",
            "Every gating check of the version and of all its ancestors has passed.",
            lambda r: _all_verdicts(graph(), r),
        ),
    ]


def _build_registered(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    merged = reading.artifact("merged_model")
    scores, baseline = reading.document("eval_scores"), reading.document("baseline_scores")
    nodes = candidate_nodes(reading, ("merged_model", "eval_scores"))
    digests = {node.asset: node.manifest.digest for node in nodes}
    trained = next(node.manifest for node in nodes if node.asset == "adapter")
    card = model_card(
        name=model.name,
        version=f"{model.name} ({merged.digest[:12]})",
        description=model.settings.description,
        nodes=nodes,
        scores=scores,
        baseline=baseline,
    )
    headline = model.task_kind().headline
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
            documents={"model_card.md": card},
            dagster_run_id=tools.run_id,
            training_run_id=str(trained.facts.get(MLFLOW_RUN, "")),
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
        **also,
    }
    stored_card = reading.store.put_files("model_card", {"model_card.md": card.encode()})
    return Built(
        reading.store.put_document("version", document),
        facts={
            "version": registered.version,
            "merged_digest": merged.digest,
            "uri": registered.uri,
            **also,
        },
        attachments={"model_card": stored_card},
    )


def _build_deployed(reading: Reading, tools: Tools) -> Built:
    model, serving = reading.model, reading.model.settings.serving
    version = reading.document("registered_version")
    folder = reading.store.find("model", version["digest"]).path
    stack.up(reading.home, progress=tools.say)
    running = deployment.start_version(
        reading.home,
        deployment.VersionSpec(
            model.name,
            version["version"],
            version["digest"],
            folder,
            serving.max_model_len,
            prediction.DTYPE,
        ),
        replicas=serving.replicas,
        timeout_s=serving.startup_timeout_s,
        progress=tools.say,
    )
    tools.say(f"{version['version']} is healthy on {serving.replicas} replicas; smoke test")
    smoke = smoke_test(reading, f"{model.name}@v{version['number']:04d}")
    minimum = model.settings.gates.smoke_correct
    if smoke["correct"] < minimum:
        deployment.retire_others(reading.home, model.name)
        raise ValueError(
            f"{version['version']} answered {smoke['correct']} of {smoke['examples']} smoke-test "
            f"examples right, {minimum} are needed; production was left as it was"
        )
    with PointerStore(reading.home) as pointers:
        move = pointers.promote(
            model.name, version["version"], by=f"dagster run {tools.run_id}", reason="deployment"
        )
    deployment.retire_others(reading.home, model.name)
    try:
        record_aliases(reading)
    except RegistryError as error:
        tools.say(f"warning: {error}")
    tools.say(f"{version['version']} is in production; {move.from_version or 'nothing'} before it")
    task = reading.document("eval_scores")["task"]
    document = deployment_document(version, move, smoke, task)
    return Built(
        reading.store.put_document("deployment", document),
        facts={
            **{key: document[key] for key in ("version", "kind", "from_version", "by", "at")},
            "replicas": [replica.url for replica in running.version.replicas],
            "endpoint": f"{stack.gateway_url(stack.Ports.from_environment())}/v1",
            "smoke_correct": smoke["correct"],
        },
    )


def deployment_document(
    version: dict[str, Any], move: Move, smoke: dict[str, Any] | None, task: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the document of a deployment: what production serves since when, and by whom."""
    return {
        "version": version["version"],
        "digest": version["digest"],
        "kind": move.kind,
        "from_version": move.from_version or "",
        "by": move.by,
        "reason": move.reason,
        "at": move.at,
        "recorded_at": now(),
        "smoke": smoke,
        "accuracy_at_deployment": task and {"correct": task["correct"], "total": task["total"]},
    }


def record_aliases(reading: Reading) -> None:
    """Tell the registry which versions are champion and previous.

    Raises:
        RegistryError: if the registry does not take it; the pointer is the truth, this is a copy.
    """
    with PointerStore(reading.home) as store:
        pointer = store.pointer(reading.model.name)
    if pointer is None:
        return
    numbers = [
        name and int(name.rsplit("-v", 1)[1]) for name in (pointer.current, pointer.previous)
    ]
    chosen.set_aliases(
        reading.model.settings.registry,
        reading.home,
        reading.model.name,
        int(numbers[0] or 0),
        numbers[1] or None,
    )


def smoke_test(reading: Reading, name: str) -> dict[str, Any]:
    """Ask ten golden examples through the gateway; each replica gets some of them.

    Raises:
        ValueError: if the endpoint does not answer.
    """
    examples = sorted(prediction.examples_of(reading), key=lambda e: e.example_id)[:SMOKE_EXAMPLES]
    settings = AskSettings(
        model=name,
        base_url=f"{stack.gateway_url(stack.Ports.from_environment())}/v1",
        max_tokens=reading.model.settings.task.max_new_tokens,
        concurrency=4,
    )
    try:
        answers = ask_blocking(examples, settings)
    except EndpointError as error:
        raise ValueError(str(error)) from error
    scores = reading.model.task_kind().score(examples, answers.predictions)
    return {
        "correct": scores.correct,
        "examples": len(examples),
        "versions": list(answers.versions),
    }


def _smoke_check(reading: Reading, minimum: int) -> Outcome:
    version = reading.document("deployed_version")["version"]
    smoke = smoke_test(reading, reading.model.name)
    text = f"{version}: {smoke['correct']} of {smoke['examples']} right, {minimum} asked for"
    passed = smoke["correct"] >= minimum and smoke["versions"] == [version]
    if smoke["versions"] != [version]:
        text = f"the endpoint answered as {smoke['versions']}, {version} is deployed"
    return Outcome(passed, text, smoke, {"golden_set": reading.digest("golden_set")})


def _all_verdicts(graph: GraphPlan, reading: Reading) -> Outcome:
    made = decision(graph, reading, ("registered_version",))
    refused = [f"{f.asset}.{f.check}: {f.state}" for f in made.refusals]
    judged = [f for f in made.findings if f.severity == "block"]
    text = f"{len(judged) - len(refused)} of {len(judged)} gating checks have passed"
    return Outcome(
        made.allowed,
        text if made.allowed else f"{text}; not: {', '.join(refused)}",
        {"findings": [f"{f.asset}.{f.check} {f.digest[:12]} {f.state}" for f in made.findings]},
    )


def _verify(reading: Reading) -> Outcome:
    version = reading.document("registered_version")
    merged = reading.store.find("model", version["digest"])
    computed = reading.store.recompute(merged)
    text = f"the merged model's digest is {computed[:12]}, registered is {version['digest'][:12]}"
    return Outcome(computed == version["digest"], text, {"digest": computed})


def _documented(reading: Reading) -> Outcome:
    card = reading.attachment("registered_version", "model_card").path / "model_card.md"
    text = card.read_text(encoding="utf-8")
    missing = [part for part in ("## Use", "## Scores", "## Made from") if part not in text]
    return Outcome(
        not missing, f"the model card lacks {missing}" if missing else "the card is whole"
    )
