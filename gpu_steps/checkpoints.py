"""Checkpoints that can be trusted after a kill, a power cut or a half-done copy.

Invariants: a checkpoint counts only when its marker, written last, names every file with its
digest and all of them are there unchanged; what is not whole is removed and never resumed from.
"""

import hashlib
import json
import shutil
from pathlib import Path

from gpu_steps.output import write_json

MARKER = "whole"


def mark_whole(checkpoint: Path) -> None:
    """Write the marker of a checkpoint that has all its files."""
    write_json(checkpoint / MARKER, _digests(checkpoint))


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the highest step; removes those above it that are not whole."""
    found = {int(one.name.removeprefix("checkpoint-")): one for one in folder.glob("checkpoint-*")}
    for step in sorted(found, reverse=True):
        if _is_whole(found[step]):
            return found[step]
        shutil.rmtree(found[step])
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        marked = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(marked == _digests(checkpoint))


def _digests(checkpoint: Path) -> dict[str, str]:
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != MARKER]
    return {str(path.relative_to(checkpoint)): _digest(path) for path in sorted(files)}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
