"""A label source that ``labels.path`` names: a file on disk, or an object in a bucket."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.sources.places import local_copy, place_state
from ftdm_assets.sources.snapshot import Snapshot, read_unchanged

_SETTING = "labels.path"


@dataclass(frozen=True)
class PathSource(ABC):
    """What all such sources share; how the file is read is their own."""

    model: ModelFolder

    @property
    def description(self) -> str:
        """Return the path as the settings name it."""
        return self.model.settings.labels.path or ""

    def state(self) -> str:
        """Return the file's digest, or the object's state."""
        return place_state(self.model, self.description, _SETTING)

    def read(self) -> Snapshot:
        """Read the file, or a whole copy of the object."""
        return read_unchanged(self.state, self._read, f"{self.description}: it")

    def _read(self) -> pd.DataFrame:
        with local_copy(self.model, self.description, _SETTING) as path:
            return self.frame(path)

    @abstractmethod
    def frame(self, path: Path) -> pd.DataFrame:
        """Return the raw frame of a file."""
