"""Snips as an extraction: a domain model's folder, written from ../shared/data/snips.

Run as `python -m bench.snips_extraction FOLDER`, then `FTDM_MODELS=FOLDER ftdm run snips`. An
answer is one JSON object: the intent, and each slot that the request fills, as it is written there.
The training part gives the labels, the validation part the golden set. FOLDER lies outside of the
repository, whose files hold none of the texts.

Invariants: a text stands once in the golden set; an answer keeps the schema and is canonical; what
is left out is counted and said.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import rfc8785
import yaml

from bench.snips_rows import SNIPS, Utterance, utterances
from ftdm_assets.made_data.drafts import jsonl, write

NAME = "snips"
_SOURCE = "sonos/nlu-benchmark"
_LABELS, _GOLDEN = 2000, 280


def answer(utterance: Utterance) -> dict[str, str]:
    """Return the right answer to an utterance in which no slot stands twice."""
    return {"intent": utterance.intent, **{name: text.strip() for name, text in utterance.slots}}


def usable(found: Iterable[Utterance]) -> tuple[list[Utterance], int]:
    """Return the utterances that have an answer, each text once, and how many have none.

    Without one are those with a slot twice, and texts that two utterances answer differently.
    """
    answers: dict[str, dict[str, str]] = {}
    kept: dict[str, Utterance] = {}
    spoilt: set[str] = set()
    lost = 0
    for utterance in found:
        text = " ".join(utterance.text.split())
        right = answer(utterance)
        if len(right) <= len(utterance.slots):
            lost += 1
        elif answers.setdefault(text, right) != right:
            spoilt.add(text)
        else:
            kept.setdefault(text, Utterance(utterance.intent, text, utterance.slots))
    left = [utterance for text, utterance in kept.items() if text not in spoilt]
    return left, lost + len(spoilt)


def schema(intents: Iterable[str], slots: Iterable[str]) -> dict[str, object]:
    """Return the JSON schema of the answers."""
    texts = {name: {"type": "string", "minLength": 1} for name in slots}
    intent = {"enum": sorted(intents)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A request to a voice assistant",
        "type": "object",
        "additionalProperties": False,
        "required": ["intent"],
        "properties": dict(sorted({"intent": intent, **texts}.items())),
    }


def defs(longest: int) -> str:
    """Return the ``defs.yaml`` of the model; `longest` is the longest answer's length in bytes."""
    attributes = {
        "name": NAME,
        "description": "Intent and slots of requests to a voice assistant, as JSON.",
        "task": {
            "kind": "extraction",
            "instruction": "Extract the intent and its slots as JSON.",
            "schema": "schema.json",
            # A token holds a byte at least, and the end of turn is one more.
            "max_new_tokens": longest + 1,
        },
        "labels": {
            "source": "file",
            "path": "labels.jsonl",
            "sample": _LABELS,
            "data_class": "public",
        },
        "golden": {"path": "golden.jsonl", "sample": _GOLDEN, "verified_by": _SOURCE},
        "training": {"learning_rate": 0.0015, "scheduler": "linear", "lora": {"upper_layers": 15}},
        # An exercise of the graph, no product: levels that this small a training reaches, and the
        # room that 280 golden requests allow.
        "gates": {
            "target_field_f1": 0.8,
            "output_valid": 0.95,
            "worse_than_production_points": 2,
        },
    }
    document = {"type": "ftdm_assets.DomainModel", "attributes": attributes}
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def make() -> tuple[dict[str, str], int]:
    """Return the files' texts by name, and how many utterances are left out."""
    labels, lost = usable(utterances("train_*_full.json"))
    golden, golden_lost = usable(utterances("validate_*.json"))
    every = labels + golden
    slots = {name for utterance in every for name, _ in utterance.slots}
    outputs = {utterance.text: rfc8785.dumps(answer(utterance)).decode() for utterance in every}
    longest = max(len(output.encode()) for output in outputs.values())
    shape = schema({utterance.intent for utterance in every}, slots)
    files = {
        "defs.yaml": defs(longest),
        "schema.json": json.dumps(shape, indent=2) + "\n",
        "labels.jsonl": jsonl(
            {
                "record_id": f"{NAME}-{number:05d}",
                "input": utterance.text,
                "output": outputs[utterance.text],
                "annotator": NAME,
                "source": _SOURCE,
                "data_class": "public",
            }
            for number, utterance in enumerate(labels, start=1)
        ),
        "golden.jsonl": jsonl(
            {
                "example_id": f"{NAME}-golden-{number:03d}",
                "input": utterance.text,
                "output": outputs[utterance.text],
                "verified_by": _SOURCE,
            }
            for number, utterance in enumerate(golden, start=1)
        ),
    }
    return files, lost + golden_lost


def main(arguments: list[str]) -> int:
    """Write the folder and say what it holds."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m bench.snips_extraction FOLDER\n")
        return 2
    if not SNIPS.exists():
        sys.stderr.write(f"there is no {SNIPS}; put the files of {_SOURCE} there\n")
        return 2
    files, lost = make()
    folder = Path(arguments[0]) / NAME
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, files)
    sys.stdout.write(f"{lost} utterances are left out: a slot twice, or two answers to one text\n")
    sys.stdout.write(f"next: FTDM_MODELS={arguments[0]} ftdm run {NAME}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
