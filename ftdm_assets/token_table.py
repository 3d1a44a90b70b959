"""A decoded batch as markdown: token by token, trained or not, for a person to read."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

_NONE = "No example may be shown here: the settings allow data that is confidential or above."


def token_table(examples: Iterable[Mapping[str, Any]]) -> str:
    """Return a table for each example (``record_id``, ``tokens`` of ``text`` and ``trained``)."""
    return "\n\n".join(_example(example) for example in examples) or _NONE


def _example(example: Mapping[str, Any]) -> str:
    lines = [f"**{example['record_id']}**", "", "| | token | trained |", "|---|---|---|"]
    for number, token in enumerate(example["tokens"], 1):
        lines.append(f"| {number} | {_code(token['text'])} | {'yes' if token['trained'] else ''} |")
    return "\n".join(lines)


def _code(text: str) -> str:
    """Return a token as code; a pipe would end the table's cell, a backtick the code."""
    shown = json.dumps(text, ensure_ascii=False)[1:-1].replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"
