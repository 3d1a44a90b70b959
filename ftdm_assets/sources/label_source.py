"""One face for every place that labels come from: what it is, what it holds now, its records.

Invariants:
* ``state`` changes whenever the records do; it is what a sensor polls and what a recipe names.
* ``read`` gives the whole source or an error: never a part of it, never a mixture of two states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.sources.argilla import ArgillaSource
from ftdm_assets.sources.files import RecordDefaults, SourceError, read_named_columns
from ftdm_assets.sources.hugging_face import HuggingFaceSource
from ftdm_assets.sources.label_studio import LabelStudioSource
from ftdm_assets.sources.places import local_copy, place_state
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


@dataclass(frozen=True)
class FileSource:
    """A JSON lines, CSV or Parquet file, on disk or in a bucket."""

    model: ModelFolder

    @property
    def description(self) -> str:
        """Return the file as the settings name it."""
        return self.model.settings.labels.path or ""

    def state(self) -> str:
        """Return the file's digest, or the object's state."""
        return place_state(self.model, self.description, "labels.path")

    def read(self) -> Snapshot:
        """Read the file with the settings' columns."""
        settings = self.model.settings.labels
        state = self.state()
        with local_copy(self.model, self.description, "labels.path") as path:
            defaults = RecordDefaults(data_class=settings.data_class)
            frame = read_named_columns(path, settings.columns, defaults)
        if self.state() != state:
            raise SourceError(f"{self.description}: it changed while it was read; run again")
        return Snapshot(frame, state)


def label_source(model: ModelFolder) -> LabelSource:
    """Return the source that the settings choose."""
    sources: dict[str, Callable[[ModelFolder], LabelSource]] = {
        "file": FileSource,
        "label_studio": LabelStudioSource,
        "hugging_face": HuggingFaceSource,
        "argilla": ArgillaSource,
    }
    return sources[model.settings.labels.source](model)
