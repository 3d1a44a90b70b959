"""One face for every place that labels come from: what it is, what it holds now, its records.

Invariants:
* ``state`` changes whenever the records do; it is what a sensor polls and what a recipe names.
* ``read`` gives the whole source or an error: never a part of it, never a mixture of two states.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pandas as pd

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.sources.argilla import argilla_source
from ftdm_assets.sources.files import RecordDefaults, read_named_columns
from ftdm_assets.sources.hugging_face import HuggingFaceSource
from ftdm_assets.sources.label_studio import LabelStudioSource
from ftdm_assets.sources.path_source import PathSource
from ftdm_assets.sources.snapshot import Snapshot


class LabelSource(Protocol):
    """A place that labels come from."""

    @property
    def description(self) -> str:
        """Return what a person calls it, for the UI and for messages."""

    def state(self) -> str:
        """Return the digest of what it holds now.

        Raises:
            SettingsError: if it cannot be found.
            SourceError: if it cannot be asked.
        """

    def read(self) -> Snapshot:
        """Return the raw frame, one row an annotation, with the state that it is of.

        Raises:
            SettingsError: if it cannot be found.
            SourceError: one sentence that names source, row and remedy.
        """


class FileSource(PathSource):
    """A JSON lines, CSV or Parquet file."""

    def frame(self, path: Path) -> pd.DataFrame:
        """Read the file with the settings' columns."""
        settings = self.model.settings.labels
        defaults = RecordDefaults(data_class=settings.data_class)
        return read_named_columns(path, settings.columns, defaults)


def label_source(model: ModelFolder) -> LabelSource:
    """Return the source that the settings choose."""
    sources: dict[str, Callable[[ModelFolder], LabelSource]] = {
        "file": FileSource,
        "label_studio": LabelStudioSource,
        "hugging_face": HuggingFaceSource,
        "argilla": argilla_source,
    }
    return sources[model.settings.labels.source](model)
