"""The smoke test of a version: ten golden examples, through the gateway and of each replica.

Invariant: it asks what the evaluation of that version found answered right, so that a wrong answer
tells of how it is served.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ftdm_assets.graph import prediction, production
from ftdm_assets.graph.plan import Outcome, Reading
from ftdm_assets.graph.registered_version import scores_of
from ftdm_assets.graph.replica_smoke import correct_of_each
from ftdm_assets.provenance.lineage import REGISTERED, registered
from golden.client import AskSettings, EndpointError, ask_blocking
from golden.examples import Example

SMOKE_EXAMPLES = 10


def smoke_test(
    reading: Reading, name: str, version: str, scores: Mapping[str, Any]
) -> dict[str, Any]:
    """Ask ten golden examples through the gateway, and each replica the same ten.

    Args:
        reading: where the golden set stands.
        name: what to ask the gateway for.
        version: whose replicas are asked.
        scores: those of that version's evaluation.

    Raises:
        ValueError: if the endpoint does not answer.
    """
    examples = smoke_examples(prediction.examples_of(reading), scores)
    asked = production.gateway(reading)
    settings = AskSettings(
        model=name,
        base_url=asked.base_url,
        api_key=asked.api_key,
        max_tokens=reading.model.settings.task.max_new_tokens,
        concurrency=4,
    )
    try:
        answers = ask_blocking(examples, settings)
        found = reading.model.task_kind().score(examples, answers.predictions)
        replicas = correct_of_each(reading, version, examples)
    except EndpointError as error:
        raise ValueError(str(error)) from error
    return {
        "correct": found.correct,
        "examples": len(examples),
        "versions": list(answers.versions),
        "replicas": replicas,
    }


def below(smoke: Mapping[str, Any], minimum: int) -> str:
    """Return what has too few right answers, the gateway or replicas; blank if nothing has."""
    counts = {"the gateway": smoke["correct"], **smoke["replicas"]}
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count < minimum)


def smoke_examples(examples: Sequence[Example], scores: Mapping[str, Any]) -> list[Example]:
    """Return the examples of the smoke test: those first that the evaluation found answered right.

    It tells whether the endpoint serves what was evaluated, however hard the task is.
    """
    right = {row["example_id"] for row in scores["task"]["per_example"] if row.get("correct")}
    ranked = sorted(examples, key=lambda one: (one.example_id not in right, one.example_id))
    return ranked[:SMOKE_EXAMPLES]


def smoke_check(reading: Reading, minimum: int) -> Outcome:
    """Judge the version that is deployed: enough right answers, all of them its own."""
    version, name = reading.document("deployed_version")["version"], reading.model.name
    made = registered(reading.store, name, REGISTERED, version)
    if made is None:
        return Outcome(False, f"{version} was never registered here; deploy one that was", {})
    smoke = smoke_test(reading, name, version, scores_of(reading, made))
    text = f"{version}: {smoke['correct']} of {smoke['examples']} right, {minimum} asked for"
    failed = below(smoke, minimum)
    passed = not failed and smoke["versions"] == [version]
    if failed:
        text = f"{version}: {failed} of {smoke['examples']} right, {minimum} asked for"
    if smoke["versions"] != [version]:
        text = f"the endpoint answered as {smoke['versions']}, {version} is deployed"
    return Outcome(passed, text, smoke, {"golden_set": reading.digest("golden_set")})
