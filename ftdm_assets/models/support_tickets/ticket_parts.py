"""The hand-written parts of the tickets, and what every maker of tickets shares.

Invariant: nothing here draws from a global random source. Each draw comes from a stream named by
what is drawn, so that editing one part leaves the other tickets as they are.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SEED = "support_tickets-2026-11"
ANNOTATORS = ("ann-ivo", "ann-lea", "ann-raj", "ann-wen")


@dataclass(frozen=True)
class Parts:
    """Cores by category, and the shared parts (the mapping of shared_parts.yaml)."""

    cores: dict[str, list[str]]
    openings: list[str]
    closings: list[str]
    fillers: list[str]
    slots: dict[str, list[str]]
    shared: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """A ticket before it has an id; `kind` is empty for a clean one.

    `place` is when it was annotated, as a share of the period (0 to 1).
    `related` is the key of another draft or the id of a golden example.
    """

    key: str
    text: str
    label: str
    annotator: str
    place: float
    kind: str = ""
    detail: str = ""
    expected: str = ""
    related: str = ""


def stream(*name: str) -> random.Random:
    """Return the random stream of that name: the same on every machine."""
    return random.Random("/".join((SEED, *name)))  # noqa: S311 (no secret is drawn)


def load_parts(folder: Path = HERE) -> Parts:
    """Read parts.yaml and shared_parts.yaml."""
    cores = yaml.safe_load((folder / "parts.yaml").read_text(encoding="utf-8"))
    shared = yaml.safe_load((folder / "shared_parts.yaml").read_text(encoding="utf-8"))
    return Parts(
        cores=cores,
        openings=shared["openings"],
        closings=shared["closings"],
        fillers=shared["fillers"],
        slots=shared["slots"],
        shared=shared,
    )


def trigrams(text: str) -> frozenset[str]:
    """Return the set of character 3-grams of the text, lower case, white space squeezed."""
    squeezed = " ".join(text.lower().split())
    return frozenset(squeezed[i : i + 3] for i in range(len(squeezed) - 2))


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of the two texts' character 3-grams."""
    a, b = trigrams(one), trigrams(other)
    return len(a & b) / len(a | b) if a | b else 1.0


def comparison_key(text: str) -> str:
    """Return the text without case, punctuation and white space."""
    return re.sub(r"[\W_]+", "", text.lower())
