"""Where a path of the settings leads: a file on disk, or an object in a bucket.

Invariants:
* What is read is a whole file: an object is copied aside first, and the copy is one state of it.
* Messages name the place that the settings name, never the copy.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ftdm_assets import home
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.sources import buckets
from ftdm_assets.sources.tables import SourceError
from golden.tables import GoldenError


def place_state(model: ModelFolder, path: str, setting: str) -> str:
    """Return a file's digest, or the digest of an object's state.

    Raises:
        SettingsError: if there is no such file.
        SourceError: if the store cannot be asked, or has no such object.
    """
    if buckets.is_object(path):
        return buckets.object_state(path).digest
    return model.file_digest(path, setting)


@contextlib.contextmanager
def local_copy(model: ModelFolder, path: str, setting: str) -> Iterator[Path]:
    """Give the file that a setting names, or a local copy of the object.

    Raises:
        SettingsError: if there is no such file.
        SourceError: if the object cannot be read whole.
    """
    if not buckets.is_object(path):
        model.file_digest(path, setting)
        yield model.resolve(path)
        return
    copy = buckets.fetch(path, home.home() / "cache" / "objects")
    try:
        yield copy
    except (SourceError, GoldenError) as error:
        raise type(error)(str(error).replace(str(copy), path)) from None
