"""Stage ``release``: the registered version and the deployed version.

Invariants:
* Nothing is registered or deployed while a gating check of the candidate or of an ancestor has
  not passed, in whichever run it was made.
* A version whose seal, manifests, verdicts or weights do not verify is not started, nor promoted.
* A new version takes over only after it is healthy and has passed its smoke test; until then, and
  whenever something fails, production serves what it served.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ftdm_assets.graph import prediction, production, registered_version
from ftdm_assets.graph.evidence import PRODUCTION, deployed_decision, request_log_head
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, GraphPlan, Outcome, Reading, Tools
from ftdm_assets.graph.smoke import SMOKE_EXAMPLES, below, smoke_check, smoke_test
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.gate import gate_table
from ftdm_assets.records.data_classes import DATA_CLASSES
from ftdm_assets.registries import chosen
from ftdm_assets.registries.mlflow_registry import RegistryError
from ftdm_assets.settings import DomainModelSettings
from serving import deployment, moves, sleep
from serving.admission import Admission, AdmissionError, StoreAdmission
from serving.engine import EngineError
from serving.platform import DeploymentError, Platform, VersionSpec
from serving.pointer import PointerStore
from serving.versions import CacheTerms, Move, PointerError, Version
from serving.who_moves import who_moves

GROUP = "release"


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the assets of this stage."""
    settings = model.settings
    return [
        registered_version.asset(model, GROUP),
        AssetPlan(
            name="deployed_version",
            group=GROUP,
            description="The version that production serves on at least two replicas; the "
            "previous one is kept warm.",
            build=_build_deployed,
            # 3: answers are held to the form of the registered version; the smoke test asks every
            # replica itself, too.
            version="3",
            config=settings.serving.model_dump(exclude={"drill", "constrained"}),
            deps=("registered_version",),
            memoised=False,
            gated=True,
            kinds=("vllm",),
        ),
    ]


def checks(model: ModelFolder, graph: Callable[[], GraphPlan]) -> list[CheckPlan]:
    """Return the checks of this stage."""
    correct = model.settings.gates.smoke_correct
    return [
        *registered_version.checks(),
        CheckPlan(
            "deployed_version",
            "smoke_test",
            "Ten golden examples, of those that the evaluation found answered right, against the "
            "running endpoint and against each of its replicas.",
            lambda r: smoke_check(r, correct),
            {"minimum_correct": correct, "examples": SMOKE_EXAMPLES},
            # 2: takes those that the evaluation found answered right.
            # 3: asks every replica itself, too.
            version="3",
        ),
        CheckPlan(
            "deployed_version",
            "all_verdicts",
            "Every gating check of the version and of all its ancestors has passed.",
            lambda r: _all_verdicts(graph(), r),
            # 3: judges the version that is deployed, also after a rollback.
            version="3",
        ),
    ]


def _build_deployed(reading: Reading, tools: Tools) -> Built:
    model, serving = reading.model, reading.model.settings.serving
    version = reading.document("registered_version")
    admission = StoreAdmission(reading.home)
    platform = production.prepared(reading, admission, tools.say)
    before = _recorded(reading, version["version"])
    running = _started(reading, tools, version, admission, platform)
    tools.say(f"{version['version']} is healthy on {serving.replicas} replicas; smoke test")
    scores = registered_version.scores_of(reading, reading.manifest("registered_version"))
    asked = f"{model.name}@v{version['number']:04d}"
    smoke = smoke_test(reading, asked, version["version"], scores)
    minimum = model.settings.gates.smoke_correct
    if failed := below(smoke, minimum):
        _put_back(reading, before)
        _retire_others(reading, tools, platform)
        raise ValueError(
            f"{version['version']} failed its smoke test: {failed} right of {smoke['examples']} "
            f"examples, {minimum} are needed; production was left as it was"
        )
    move = take_over(reading, tools, version["version"], admission, platform)
    try:
        record_aliases(reading)
    except RegistryError as error:
        tools.say(f"warning: {error}")
    tools.say(f"{version['version']} is in production; {move.from_version or 'nothing'} before it")
    document = deployment_document(version, move, smoke, scores["task"])
    return Built(
        reading.store.put_document("deployment", document),
        facts={
            **{key: document[key] for key in ("version", "kind", "from_version", "by", "at")},
            "replicas": [replica.url for replica in running.version.replicas],
            "endpoint": production.endpoint(serving),
            "smoke_correct": smoke["correct"],
            **request_log_head(reading),
        },
        tables={} if tools.decision is None else {"gate": gate_table(tools.decision.findings)},
    )


def _recorded(reading: Reading, version: str) -> Version | None:
    with PointerStore(reading.home) as store:
        known = store.versions()
    return next((one for one in known if one.version == version), None)


def _put_back(reading: Reading, before: Version | None) -> None:
    """Give a version that was up already the form and the terms back that it had."""
    if before is not None:
        with PointerStore(reading.home) as store:
            now = store.version(before.model, before.version)
            store.record_version(replace(now, form=before.form, cache=before.cache))


def _started(
    reading: Reading,
    tools: Tools,
    version: dict[str, Any],
    admission: Admission,
    platform: Platform,
) -> deployment.RunningVersion:
    """Start a version if its evidence holds; otherwise nothing has changed.

    Raises:
        ValueError: if admission refuses it, or it is to sleep and the engine cannot.
    """
    model, serving = reading.model, reading.model.settings.serving
    spec = VersionSpec(
        model.name,
        version["version"],
        version["digest"],
        reading.store.find("model", version["digest"]).path,
        serving.max_model_len,
        prediction.DTYPE,
        cache_terms(model.settings),
        # Versions that were registered before there was a form were scored without.
        version.get("form", {}),
        sleeps=serving.previous == "asleep",
    )
    try:
        if spec.sleeps and serving.platform == "local":
            sleep.require_sleep_mode()
        return deployment.start_version(
            reading.home,
            spec,
            admission=admission,
            replicas=serving.replicas,
            timeout_s=serving.startup_timeout_s,
            progress=tools.say,
            platform=platform,
        )
    except (AdmissionError, EngineError) as error:
        raise ValueError(str(error)) from error


def cache_terms(settings: DomainModelSettings) -> CacheTerms:
    """Return how a model's answers may be kept."""
    cache, allowed = settings.serving.cache, settings.cleaning.allowed_data_class
    shared = allowed != DATA_CLASSES[-1] if cache.shared is None else cache.shared
    return CacheTerms(cache.enabled, cache.ttl_s, shared)


def take_over(
    reading: Reading,
    tools: Tools,
    version: str,
    admission: Admission,
    platform: Platform | None = None,
) -> Move:
    """Move production to a ready version; whatever comes of it, stop what is served no more.

    Raises:
        ValueError: if admission refuses the version, production has moved since the gate decided,
            or the key that was given may not move it.
    """
    try:
        by = who_moves(reading.home, f"dagster run {tools.run_id}")
        return moves.promote(
            reading.home,
            reading.model.name,
            version,
            by=by,
            reason="deployment",
            admission=admission,
            over=decided_over(tools),
        )
    except PointerError as error:
        raise ValueError(str(error)) from error
    finally:
        _retire_others(reading, tools, platform)
        sleep.later(reading.home, reading.model.name)


def _retire_others(reading: Reading, tools: Tools, platform: Platform | None) -> None:
    """Stop what is served no more; a platform that is out of reach undoes no deployment."""
    try:
        deployment.retire_others(reading.home, reading.model.name, platform=platform)
    except DeploymentError as error:
        tools.say(f"warning: {error}")


def decided_over(tools: Tools) -> str | None:
    """Return the digest of what production served when the gate decided; blank for nothing."""
    return None if tools.decision is None else tools.decision.known.get(PRODUCTION, "")


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


def _all_verdicts(graph: GraphPlan, reading: Reading) -> Outcome:
    made = deployed_decision(graph, reading)
    refused = [f"{f.asset}.{f.check} {f.state} on {f.digest[:12]}" for f in made.refusals]
    judged = [f for f in made.findings if f.severity == "block"]
    text = f"{len(judged) - len(refused)} of {len(judged)} gating checks have passed"
    return Outcome(
        made.allowed,
        text if made.allowed else f"{text}; not: {', '.join(refused)}",
        {
            "overridden": [
                f"{f.asset}.{f.check} {f.digest[:12]}" for f in made.findings if f.override
            ]
        },
        tables={"gate": gate_table(made.findings)},
    )
