"""One face for every place that labels come from: what it is, what it holds now, its records.

Invariants:
* ``state`` changes whenever the records do; it is what a sensor polls and what a recipe names.
* ``read`` gives the whole source or an error: never a part of it, never a mixture of two states.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import pandas as pd

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.sources.files import RecordDefaults, SourceError, find_columns, read_records


@dataclass(frozen=True)
class Snapshot:
    """The raw frame of a source in one state; ``row`` counts from 1."""

    frame: pd.DataFrame
    state: str


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

    def read(self) -> "Snapshot":
        """Return the raw frame, one row an annotation, with the state that it is of.

        Raises:
            SettingsError: if it cannot be found.
            SourceError: one sentence that names source, row and remedy.
        """


@dataclass(frozen=True)
class FileSource:
    """A JSON lines, CSV or Parquet file."""

    model: ModelFolder

    @property
    def description(self) -> str:
        """Return the file as the settings name it."""
        return self.model.settings.labels.path or ""

    def state(self) -> str:
        """Return the file's digest."""
        return self.model.file_digest(self.description, "labels.path")

    def read(self) -> Snapshot:
        """Read the file with the settings' columns."""
        settings = self.model.settings.labels
        state = self.state()
        path = self.model.resolve(self.description)
        columns = find_columns(
            path, input_column=settings.columns.input, output_column=settings.columns.output
        )
        named = settings.columns.model_dump(include={"record_id", "annotator", "annotated_at"})
        columns = replace(columns, **{name: value for name, value in named.items() if value})
        frame = read_records(path, columns, RecordDefaults(data_class=settings.data_class))
        if self.state() != state:
            raise SourceError(f"{path}: the file changed while it was read; run again")
        return Snapshot(frame, state)


def label_source(model: ModelFolder) -> LabelSource:
    """Return the source that the settings choose."""
    if model.settings.labels.source == "label_studio":
        from ftdm_assets.sources.label_studio import LabelStudioSource

        return LabelStudioSource(model)
    return FileSource(model)
