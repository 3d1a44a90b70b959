"""The hand-written parts of the orders, and what every maker of orders shares.

Invariant: `output_text` writes one form of an order: RFC 8785, which here is keys in the schema's
order and no white space.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from ftdm_assets.made_data.drafts import seeded
from ftdm_assets.made_data.edits import Rewording, rewording

HERE = Path(__file__).parent
SEED = "order_extraction-2026-11"
ANNOTATORS = ("ann-bo", "ann-kit", "ann-mia", "ann-sol")

stream = seeded(SEED)


@dataclass(frozen=True)
class Line:
    """One article that is ordered."""

    article: str
    quantity: int
    unit: str


@dataclass(frozen=True)
class Output:
    """What a message orders: the model's answer, in the schema's order of keys."""

    customer_number: str | None = None
    delivery_date: str | None = None
    express: bool = False
    lines: tuple[Line, ...] = ()
    reference: str | None = None
    ship_to: str | None = None


@dataclass(frozen=True)
class Parts:
    """The mappings of parts.yaml (sentences) and catalogue.yaml (what they are filled with)."""

    sentences: dict[str, Any]
    catalogue: dict[str, Any]

    @property
    def rewording(self) -> Rewording:
        """Return what may change in a near duplicate."""
        return rewording(self.sentences["swaps"], self.sentences["droppable"])


def load_parts(folder: Path = HERE) -> Parts:
    """Read parts.yaml and catalogue.yaml."""
    sentences, catalogue = (
        yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        for name in ("parts.yaml", "catalogue.yaml")
    )
    return Parts(sentences, catalogue)


def output_text(output: Output | dict[str, Any]) -> str:
    """Return an output in its canonical form."""
    value = output if isinstance(output, dict) else asdict(output)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def output_of(brief: str) -> Output:
    """Return the output of lines written as in the parts: ``10 box MX-71; 2 roll tape``."""
    lines = []
    for part in brief.split("; "):
        quantity, unit, article = part.split(" ", 2)
        lines.append(Line(article, int(quantity), unit))
    return Output(lines=tuple(lines))
