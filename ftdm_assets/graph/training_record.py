"""What the adapter's manifest keeps of its training: environment, hours, cost, MLflow's run.

Invariant: a cost is stated only where a price is set or the machine's operator billed; there is no
guessed one.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.compute_settings import PriceSettings
from ftdm_assets.graph.kept_step import STEP, KeptStep
from ftdm_assets.graph.plan import Outcome, Reading, Tools
from ftdm_assets.provenance.store import Artifact, ArtifactStore
from ftdm_assets.registries import mlflow_registry, mlflow_tracking

PACKAGES = "packages"
PACKAGES_FILE = "packages.txt"
_ALWAYS = (
    "seed", "python", "torch", "transformers", "trl", "peft", "cpu", "threads", "attention", "dtype"
)  # fmt: skip
_ON_GPU = ("gpu_capability", "driver", "cuda")


@dataclass(frozen=True)
class Training:
    """A training that has ended well.

    Attributes:
        step: what ran.
        adapter: the stored adapter.
        folder: the step's result folder.
        log: one entry a step, in order.
        seconds: from the start of the step to its end, as seen from here.
        job: what a remote machine's operator says of it (job name, ``billable_seconds``).
    """

    step: KeptStep
    adapter: Artifact
    folder: Path
    log: Sequence[Mapping[str, Any]]
    seconds: float
    job: Mapping[str, Any] | None = None


def recorded(
    reading: Reading, tools: Tools, training: Training
) -> tuple[dict[str, Any], dict[str, Artifact]]:
    """Write a training to MLflow; return the facts and attachments of the adapter's manifest."""
    result = json.loads((training.folder / "result.json").read_text(encoding="utf-8"))
    used = usage(reading.model.settings.compute.price, training.seconds, result, training.job)
    facts = {**result, "usage": used, **_tracked(reading, tools, training, result, used)}
    listed = (training.folder / PACKAGES_FILE).read_bytes()
    attachments = {
        PACKAGES: reading.store.put_files(PACKAGES, {PACKAGES_FILE: listed}),
        STEP: training.step.keep(reading.store),
    }
    return facts, attachments


def usage(
    price: PriceSettings | None,
    seconds: float,
    result: Mapping[str, Any],
    job: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return hours and cost of a training.

    A step's ``seconds`` count on through interruptions, so an interrupted training took at least
    those. What an operator billed counts in place of what was measured.
    """
    measured = max(seconds, float(result["seconds"]))
    billed = float((job or {}).get("billable_seconds", measured))
    found: dict[str, Any] = {"hours": round(measured / 3600, 6), **(job or {})}
    if price is not None:
        found["cost"] = round(billed / 3600 * price.per_hour, 4)
        found["currency"] = price.currency
        found["price_per_hour"] = price.per_hour
    return found


def read_packages(store: ArtifactStore, attachments: Mapping[str, Mapping[str, str]]) -> str:
    """Return the stored package list.

    Raises:
        StoreError: if it is gone.
    """
    folder = store.find(**attachments[PACKAGES]).path
    return (folder / PACKAGES_FILE).read_text(encoding="utf-8")


def environment_recorded(reading: Reading) -> Outcome:
    """Judge whether what the adapter was trained on is known, with the list of packages."""
    manifest = reading.manifest("adapter")
    environment = manifest.facts.get("environment", {})
    decides, kept = environment.get("decides", {}), environment.get("recorded", {})
    needed = (*_ALWAYS, *(_ON_GPU if decides.get("gpu") else ()))
    missing = [name for name in needed if decides.get(name) in (None, "")]
    if not manifest.facts.get("usage", {}).get("hours"):
        missing.append("hours")
    listed = b""
    if PACKAGES in manifest.attachments:
        listed = read_packages(reading.store, manifest.attachments).encode()
    if hashlib.sha256(listed).hexdigest() != kept.get("packages", {}).get("sha256"):
        missing.append("the list of packages that the digest names")
    if missing:
        return Outcome(False, f"missing: {', '.join(missing)}", {"missing": missing})
    image = kept.get("image_digest")
    text = (
        f"{decides.get('gpu') or decides['cpu']}, torch {decides['torch']}, "
        f"{kept['packages']['count']} packages, {f'image {image}' if image else 'no image'}"
    )
    return Outcome(True, text, {"missing": []})


def _tracked(
    reading: Reading, tools: Tools, training: Training,
    result: Mapping[str, Any], used: Mapping[str, Any],
) -> dict[str, str]:  # fmt: skip
    environment = {**result["environment"]["decides"], **result["environment"]["recorded"]}
    numbers = {
        name: value
        for name, value in {**result, **used}.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    found = mlflow_tracking.track(
        mlflow_registry.address(reading.model.settings.registry.tracking_uri, reading.home),
        mlflow_registry.artifacts_folder(reading.home),
        mlflow_tracking.TrainingRun(
            model=reading.model.name,
            asset=f"{reading.model.name}/adapter",
            adapter=training.adapter.digest,
            dagster_run_id=tools.run_id,
            started=time.time() - max(training.seconds, float(result["seconds"])),
            parameters=training.step.settings,
            log=training.log,
            metrics=numbers,
            datasets={"training_set": reading.digest("training_set")},
            tags=mlflow_tracking.flat(
                {"ftdm": {"base_model": reading.digest("base_model")}, "environment": environment}
            ),
        ),
    )
    error = found.get(mlflow_tracking.MLFLOW_ERROR)
    tools.say(f"warning: {error}" if error else "the training is tracked by MLflow")
    return found
