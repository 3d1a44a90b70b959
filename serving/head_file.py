"""The file beside a request log that says how far it goes: `COUNT:DIGEST` of its last entry."""

import os
from pathlib import Path

from ftdm_assets.provenance.chain_links import Head

_BYTES = 128


class HeadFile:
    """A head that one machine keeps for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head | None:
        """Return the head; None if there is no such file.

        Raises:
            ValueError: It is damaged.
        """
        if not self.path.exists():
            return None
        return Head.parse(self.path.read_text(encoding="ascii"))

    def write(self, head: Head) -> None:
        """Keep a head."""
        # In place and without waiting for the disk: a head that lost its last change in a power cut
        # stands before the end of the log, whose further rows are then taken in.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            os.pwrite(descriptor, f"{head}\n".rjust(_BYTES).encode(), 0)
        finally:
            os.close(descriptor)
