"""The utterances of Snips, read from ``../shared/data/snips`` and stored nowhere."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SNIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "snips"


@dataclass(frozen=True)
class Utterance:
    """One request to an assistant: what it is about, and its slots in the order of the text."""

    intent: str
    text: str
    slots: tuple[tuple[str, str], ...]


def utterances(files: str) -> Iterator[Utterance]:
    """Yield the utterances of the files with such a name, ``train_*_full.json`` or the like."""
    for path in sorted(SNIPS.glob(f"*/{files}")):
        content = path.read_bytes()
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            # One of the training files.
            text = content.decode("latin-1")
        for intent, entries in json.loads(text).items():
            for entry in entries:
                parts = entry["data"]
                yield Utterance(
                    intent,
                    "".join(part["text"] for part in parts),
                    tuple((part["entity"], part["text"]) for part in parts if "entity" in part),
                )
