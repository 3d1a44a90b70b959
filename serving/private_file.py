"""Small files with a secret in them: whole or not at all, and for their owner only."""

import os
from pathlib import Path


def read_private(path: Path) -> str:
    """Return a file's text without the line end; nothing if there is no such file."""
    return path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""


def write_private(path: Path, text: str) -> None:
    """Write a text that only this user can read, and put it in place once it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
