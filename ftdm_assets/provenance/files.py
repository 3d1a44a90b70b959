"""Whole or not at all: every file and folder is written aside, then renamed into its place."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file aside and rename it, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def json_bytes(value: Any) -> bytes:
    """Return a JSON file for people: indented, sorted keys, UTF-8."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people."""
    write_bytes(path, json_bytes(value))


def jsonl_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines with sorted keys."""
    lines = (json.dumps(dict(row), sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
    return "".join(lines).encode()


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file that this project wrote."""
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@contextlib.contextmanager
def folder_aside(target: Path) -> Iterator[Path]:
    """Give a folder beside ``target`` to fill; it is renamed to ``target`` only if all went well.

    If the target has come to exist meanwhile (another run made the same content), that one stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    aside.chmod(0o755)
    try:
        yield aside
        with contextlib.suppress(FileExistsError, OSError):
            aside.rename(target)
        if not target.is_dir():
            raise OSError(f"{target}: could not be put in place; is the disk full or read-only?")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
