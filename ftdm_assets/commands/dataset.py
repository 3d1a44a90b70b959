"""``ftdm dataset push``: the cleaned dataset goes to a private repository of the Hugging Face Hub.

Invariants:
* Only what the gate lets on is pushed: every blocking check of the dataset and of all that it was
  made from has passed on exactly these digests.
* No record above the allowed data class leaves; the caller allows it on the command line, anew each
  time.
* The reading stands in the access record with its destination; what was pushed and verified is a
  statement in the store.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ftdm_assets.commands import output
from ftdm_assets.dataset_card import CardFacts, dataset_card
from ftdm_assets.provenance.access_log import Reader, user
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.publication import Publication
from ftdm_assets.records.data_classes import DATA_CLASSES, classes_up_to
from ftdm_assets.registries.hub_dataset import DATA_FILE, dataset_digest, dataset_files
from ftdm_assets.registries.hub_repo import Pushed, Upload
from ftdm_assets.registries.hub_repo import push as push_to_hub
from ftdm_assets.settings import SettingsError

if TYPE_CHECKING:
    from ftdm_assets.graph.plan import Reading

ASSET = "cleaned_dataset"


def push(name: str, to: str, allowed_data_class: str, as_json: bool) -> int:
    """Push the current cleaned dataset, or find that it is there already."""
    if allowed_data_class not in DATA_CLASSES:
        raise SettingsError(
            f"--allowed-data-class: expected one of {', '.join(DATA_CLASSES)}; found "
            f"{allowed_data_class!r}"
        )
    from ftdm_assets.graph.build import build_plan
    from ftdm_assets.graph.evidence import require
    from ftdm_assets.graph.shell import reading_of
    from ftdm_assets.model_folder import load_model

    graph = build_plan(load_model(name))
    reading = reading_of(graph, Reader(f"ftdm dataset push {name} to {to}"))
    require(graph, reading, (ASSET,), f"pushing {ASSET} of {name}")
    rows = reading.records(ASSET)
    _refuse_higher(rows, allowed_data_class, f"{ASSET} of {name}")
    card = dataset_card(_card_facts(reading, rows), DATA_FILE)
    digest = reading.digest(ASSET)
    pushed = push_to_hub(
        Upload(
            to=to,
            kind="dataset",
            files=dataset_files(rows, card),
            digest=digest,
            digest_of=dataset_digest,
            message=f"{ASSET} of {name}, {len(rows)} records, {digest[:12]}",
        )
    )
    _tell(_stated(reading, to, pushed, len(rows)), pushed, as_json)
    return output.DONE


def _refuse_higher(rows: Sequence[Mapping[str, Any]], allowed: str, what: str) -> None:
    from ftdm_assets.graph.evidence import RefusedError

    fine = classes_up_to(allowed)
    above = Counter(str(row["data_class"]) for row in rows if row["data_class"] not in fine)
    if above:
        told = ", ".join(f"{n} {name}" for name, n in sorted(above.items()))
        highest = max(above, key=DATA_CLASSES.index)
        raise RefusedError(
            f"{what} has records above {allowed} ({told}), nothing was sent; if they may lie on "
            f"the Hub, say so with --allowed-data-class {highest}"
        )


def _card_facts(reading: "Reading", rows: Sequence[Mapping[str, Any]]) -> CardFacts:
    model, digest = reading.model, reading.digest(ASSET)
    return CardFacts(
        model=model.name,
        description=model.settings.description,
        descriptions=model.taxonomy(),
        raw=reading.manifest("raw_labels"),
        cleaned=reading.manifest(ASSET),
        rows=rows,
        personal_data=model.settings.cleaning.personal_data_of(),
        verdicts=reading.store.verdicts(model.name, ASSET, digest),
        sign_offs=reading.store.sign_offs(model.name, ASSET, digest),
    )


def _stated(reading: "Reading", to: str, pushed: Pushed, rows: int) -> Publication:
    """Return the statement of this push; of an earlier one, if it is there."""
    name, digest = reading.model.name, reading.digest(ASSET)
    made = Publication(
        asset=ASSET, model=name, digest=digest, hub=_hub(), repository=to, commit=pushed.commit,
        tag=pushed.tag, rows=rows, by=os.environ.get("FTDM_ACTOR") or user(), user=user(),
        pushed_at=now(),
    )  # fmt: skip
    place = (made.hub, made.repository, made.commit)
    for known in reading.store.publications(name, ASSET, digest):
        if (known.hub, known.repository, known.commit) == place:
            return known
    reading.store.add_publication(made)
    return made


def _hub() -> str:
    """Return the Hub's address without credentials."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _tell(made: Publication, pushed: Pushed, as_json: bool) -> None:
    url = f"{made.hub}/datasets/{made.repository}/tree/{made.commit}"
    if as_json:
        output.print_json({**asdict(made), "made": pushed.made, "url": url})
        return
    how = "pushed and verified" if pushed.made else "was there already, verified again"
    output.say(f"{made.rows} records {how}: {url}")
    output.say(f"digest {made.digest}, commit {made.commit}, tag {made.tag}")
