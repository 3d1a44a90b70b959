"""A registered version's training, run again from its manifests, and what came of it.

Invariants:
* Settings, training set and base model come from the store by the digests that the manifests name,
  and are verified first; no YAML and no file of today has a say.
* No head, pointer or artifact is changed; what is made lies in a work folder and is compared.
* The number of threads is that of the record: on a CPU it decides in which order sums are taken.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.answer_form import form_of
from ftdm_assets.graph import prediction
from ftdm_assets.graph.kept_step import STEP, KeptStep, agreement_rows, write_rows
from ftdm_assets.graph.plan import Tools
from ftdm_assets.graph.reproduction_outcome import compare_scores, judge
from ftdm_assets.graph.training_record import PACKAGES_FILE, read_packages
from ftdm_assets.model_folder import task_kind
from ftdm_assets.provenance.comparison import environment_differences, package_differences
from ftdm_assets.provenance.digests import folder_digest
from ftdm_assets.provenance.environment import commit, now
from ftdm_assets.provenance.reproduction import Reproduction
from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from ftdm_assets.serving_settings import ServingSettings
from serving.engine import EngineError


class ReproductionError(ValueError):
    """A version's training cannot be run again; the message says what is gone."""


@dataclass(frozen=True)
class Recorded:
    """A registered version and the manifests that say how it was trained and scored."""

    version: Manifest
    merged: Manifest
    adapter: Manifest
    training_set: Manifest
    base_model: Manifest
    scores: Manifest
    golden_set: Manifest

    @property
    def name(self) -> str:
        """Return the version's name."""
        return str(self.version.facts["version"])

    @property
    def digests(self) -> dict[str, str]:
        """Return the digests that a reproduction has to arrive at."""
        return {"adapter": self.adapter.digest, "merged_model": self.merged.digest}


@dataclass(frozen=True)
class Rerun:
    """What running the training again made."""

    digests: Mapping[str, str]
    model: Path
    environment: Mapping[str, Any]
    packages: str


def recorded_version(store: ArtifactStore, version: Manifest) -> Recorded:
    """Walk from a registered version's manifest to those of its training.

    Raises:
        StoreError: if a manifest on the way is missing or was changed.
    """
    merged, scores = _input(store, version, "merged_model"), _input(store, version, "eval_scores")
    adapter = _input(store, merged, "adapter")
    return Recorded(
        version=version,
        merged=merged,
        adapter=adapter,
        training_set=_input(store, adapter, "training_set"),
        base_model=_input(store, adapter, "base_model"),
        scores=scores,
        golden_set=_input(store, scores, "golden_set"),
    )


def _input(store: ArtifactStore, manifest: Manifest, asset: str) -> Manifest:
    ref = next((one for one in manifest.inputs if one.asset == asset), None)
    if ref is None:
        raise ReproductionError(
            f"manifest {manifest.manifest_digest()[:12]} of {manifest.model}/{manifest.asset} "
            f"names no {asset}: it cannot be followed"
        )
    found = store.manifest(manifest.model, asset, ref.manifest)
    if found.digest != ref.digest:
        raise ReproductionError(
            f"{manifest.model}/{manifest.asset} was made from {asset} {ref.digest}, but the "
            f"manifest that it names is of {found.digest}"
        )
    return found


def reproduce(
    store: ArtifactStore, work: Path, tools: Tools, recorded: Recorded, *, scores: bool
) -> Reproduction:
    """Run a version's training again and say whether it came out the same.

    Args:
        store: holds the version's lineage; only the outcome's statement is added to it, by the
            caller.
        work: a folder to train in; an interrupted reproduction goes on from it.
        tools: run the steps.
        recorded: the version.
        scores: whether to compare the scores even where the digests are the same.

    Raises:
        ReproductionError: if something that is needed is gone or was changed.
        StepFailedError: if a step fails.
    """
    started = time.monotonic()
    needed = [recorded.training_set, recorded.base_model]
    for manifest in (*needed, recorded.golden_set) if scores else needed:
        _require(store, recorded, manifest.asset, manifest.kind, manifest.digest)
    made = _run_again(store, work, tools, recorded)
    equal = dict(made.digests) == recorded.digests
    compared: dict[str, Any] = {}
    problem = ""
    if scores or not equal:
        try:
            compared = _scored(store, work, tools, recorded, made.model)
        except (ValueError, EngineError) as error:
            problem = str(error)
    differences = _differences(store, recorded.adapter, made)
    outcome, reason = judge(recorded.digests, made.digests, compared, differences, problem)
    return Reproduction(
        asset=recorded.version.asset,
        model=recorded.version.model,
        digest=recorded.version.digest,
        version=recorded.name,
        outcome=outcome,
        reason=reason,
        recorded=recorded.digests,
        made=dict(made.digests),
        differences=tuple(differences),
        scores=compared,
        environment=made.environment,
        code=commit(),
        seconds=round(time.monotonic() - started, 1),
        finished_at=now(),
    )


def _differences(store: ArtifactStore, adapter: Manifest, made: Rerun) -> list[dict[str, Any]]:
    then = {**adapter.facts["environment"], "code": adapter.environment.get("commit")}
    found = environment_differences(then, {**made.environment, "code": commit()})
    try:
        return found + package_differences(read_packages(store, adapter.attachments), made.packages)
    except StoreError:
        # The list explains, it decides nothing; its digest was compared above.
        return found


def _require(store: ArtifactStore, recorded: Recorded, what: str, kind: str, digest: str) -> None:
    if not (store.root / "artifacts" / kind / digest).is_dir():
        raise ReproductionError(
            f"{recorded.name} cannot be reproduced: {what} {digest} is gone from {store.root}; "
            "only its very content can take its place, such as from a backup"
        )
    if problem := store.verify(kind, digest):
        raise ReproductionError(f"{recorded.name} cannot be reproduced: {problem}")


def _kept_step(store: ArtifactStore, recorded: Recorded, manifest: Manifest) -> KeptStep:
    if STEP not in manifest.attachments:
        raise ReproductionError(
            f"{recorded.name} cannot be reproduced: its {manifest.asset} was made before the "
            "settings of steps were kept; versions trained since can be"
        )
    kept = manifest.attachments[STEP]
    _require(store, recorded, f"the settings of its {manifest.asset},", **kept)
    return KeptStep.of(store, manifest)


def _run_again(store: ArtifactStore, work: Path, tools: Tools, recorded: Recorded) -> Rerun:
    train = _kept_step(store, recorded, recorded.adapter)
    merge = _kept_step(store, recorded, recorded.merged)
    rows = store.read_records(recorded.training_set.kind, recorded.training_set.digest)
    base = store.find(recorded.base_model.kind, recorded.base_model.digest).path
    trained, merged = work / "trained", work / "merged"
    for folder in (trained, merged):
        shutil.rmtree(folder, ignore_errors=True)
    write_rows(work / "train.jsonl", rows)
    write_rows(work / "agreement.jsonl", agreement_rows(rows))
    tools.say(f"training again: {len(rows)} rows, base model {recorded.base_model.digest[:12]}")
    KeptStep(train.program, {**train.settings, **_threads(recorded)}).run(
        tools,
        {
            "base_model": base,
            "train_file": work / "train.jsonl",
            "output": trained,
            "work": work,
        },
    )
    tools.say("merging again")
    merge.run(
        tools,
        {
            "base_model": base,
            "adapter": trained / "adapter",
            "output": merged,
            "agreement_file": work / "agreement.jsonl",
        },
    )
    result = json.loads((trained / "result.json").read_text(encoding="utf-8"))
    return Rerun(
        digests={
            "adapter": folder_digest(trained / "adapter"),
            "merged_model": folder_digest(merged / "model"),
        },
        model=merged / "model",
        environment=result["environment"],
        packages=(trained / PACKAGES_FILE).read_text(encoding="utf-8"),
    )


def _threads(recorded: Recorded) -> dict[str, int]:
    decides = recorded.adapter.facts["environment"]["decides"]
    return {} if decides.get("gpu") else {"threads": decides["threads"]}


def _scored(
    store: ArtifactStore, work: Path, tools: Tools, recorded: Recorded, model: Path
) -> dict[str, Any]:
    golden, config = recorded.golden_set, recorded.scores.config
    _require(store, recorded, golden.asset, golden.kind, golden.digest)
    examples = prediction.examples_in(store.read_records(golden.kind, golden.digest))
    name = f"reproduction-{recorded.merged.digest[:12]}"
    # Held to the form that it was scored with; versions of before there was one were free.
    asking = prediction.candidate_asking(
        name, KeptStep.of(store, recorded.merged).settings["max_new_tokens"], form_of(config)
    )
    served = prediction.Served(
        model, name, config["max_model_len"], ServingSettings().startup_timeout_s
    )
    tools.say(f"scoring on {len(examples)} golden examples")
    requests = prediction.golden_requests(examples, asking)
    answers = prediction.answers_of(prediction.ask_served(work, tools, served, requests))
    scores = prediction.task_scores(examples, answers, task_kind(config))
    facts = recorded.scores.facts
    return compare_scores(facts["correct"], facts["examples"], scores.correct, scores.total)
