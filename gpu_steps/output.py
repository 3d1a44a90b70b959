"""Writes results so that nothing half-written is ever taken for whole.

Invariant: a result folder or file appears under its name in one rename, after everything in it was
written; an existing result is never overwritten.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_steps.config import ConfigError


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Give a folder to fill; it gets the name `output` when the block ends without an error.

    Raises:
        ConfigError: `output` exists already.
    """
    if output.exists():
        msg = f"output {output}: exists and is never overwritten; remove it or name another."
        raise ConfigError(msg)
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".{output.name}.partial-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def whole_file(output: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `output` when the block ends without an error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        yield aside
        aside.replace(output)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write canonical, readable JSON: sorted keys, two spaces, a final newline."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def write_json_lines(path: Path, rows: list[dict[str, object]]) -> None:
    """Write one JSON object a line, in the given order."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    with whole_file(path) as aside:
        aside.write_text("".join(lines), encoding="utf-8")
