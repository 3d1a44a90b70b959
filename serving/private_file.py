"""Small files with a secret in them: whole or not at all, and for their owner only."""

import os
import re
import secrets
from pathlib import Path

from serving.home import Home

_SECRET_BYTES = 32
_SECRET = re.compile(r"[0-9a-f]{64}")


class SecretError(Exception):
    """A secret that was made before cannot be used; the message says what to do."""


def read_private(path: Path) -> str:
    """Return a file's text without the line end; nothing if there is no such file."""
    return path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""


def write_private(path: Path, text: str) -> None:
    """Write a text that only this user can read, and put it in place once it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def secret_at(path: Path, home: Home) -> str:
    """Return a secret of a home, 64 hexadecimal digits, which is made on first use.

    Of processes that ask at once one makes it, and all are told the same.

    Raises:
        SecretError: Others may read the file, or it holds no secret.
        OSError: It can be neither read nor written.
        HomeError: Another process holds its lock.
    """
    with home.lock(path.name):
        if not path.exists():
            write_private(path, f"{secrets.token_hex(_SECRET_BYTES)}\n")
    if path.stat().st_mode & 0o077:
        raise SecretError(f"Others than its owner may read {path}: run `chmod 600 {path}`.")
    text = read_private(path)
    if not _SECRET.fullmatch(text):
        raise SecretError(
            f"{path} holds no secret: put a copy of it back, or delete it, and a new one is made."
        )
    return text
