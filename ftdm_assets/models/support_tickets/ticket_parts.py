"""The hand-written parts of the tickets, and what every maker of tickets shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ftdm_assets.made_data.drafts import seeded
from ftdm_assets.made_data.edits import Rewording, rewording
from ftdm_assets.made_data.personal_values import personal_values

HERE = Path(__file__).parent
SEED = "support_tickets-2026-11"
ANNOTATORS = ("ann-ivo", "ann-lea", "ann-raj", "ann-wen")

stream = seeded(SEED)


@dataclass(frozen=True)
class Parts:
    """Cores by category, and the shared parts (the mapping of shared_parts.yaml)."""

    cores: dict[str, list[str]]
    openings: list[str]
    closings: list[str]
    fillers: list[str]
    slots: dict[str, list[str]]
    shared: dict[str, Any]

    @property
    def rewording(self) -> Rewording:
        """Return what may change in a near duplicate."""
        return rewording(self.shared["swaps"], self.shared["droppable"])


def load_parts(folder: Path = HERE) -> Parts:
    """Read parts.yaml and shared_parts.yaml."""
    cores = yaml.safe_load((folder / "parts.yaml").read_text(encoding="utf-8"))
    shared = yaml.safe_load((folder / "shared_parts.yaml").read_text(encoding="utf-8"))
    shared["personal_values"] = personal_values()
    return Parts(
        cores=cores,
        openings=shared["openings"],
        closings=shared["closings"],
        fillers=shared["fillers"],
        slots=shared["slots"],
        shared=shared,
    )
