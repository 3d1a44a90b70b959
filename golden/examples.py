"""Golden examples: human-verified inputs with the output that is right, never trained on.

Invariants:
* Every example has an id of its own. Without one in the file it is made from the input's content,
  so that the scores of two versions of the set can be paired example by example.
* Two examples never share an input: one question cannot count twice. A row that says once more
  what an earlier row says is counted once and named; one that says otherwise is refused.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from golden.tables import GoldenError, field, required_text
from golden.tables import read_rows as _read_rows

_INPUTS = ("input", "text", "utterance", "ticket", "message", "body", "question", "prompt")
_OUTPUTS = ("output", "label", "category", "intent", "answer", "completion", "target", "class")
_IDS = ("example_id", "id", "record_id")
_VERIFIERS = ("verified_by", "verifier", "reviewer")

__all__ = ["Example", "GoldenError", "GoldenFile", "read_examples", "read_golden_file"]


@dataclass(frozen=True)
class Example:
    """One golden example; ``verified_by`` is empty when the file does not say."""

    example_id: str
    input: str
    output: str
    verified_by: str


@dataclass(frozen=True)
class GoldenFile:
    """A golden file's examples; `repeats` maps a row that was left out to the row it repeats."""

    examples: list[Example]
    repeats: dict[int, int]


def read_examples(
    path: Path, *, input_column: str | None = None, output_column: str | None = None
) -> list[Example]:
    """Read the examples of a golden file; see `read_golden_file`.

    Raises:
        GoldenError: one sentence that names the file, the row and the remedy.
    """
    return read_golden_file(path, input_column=input_column, output_column=output_column).examples


def read_golden_file(
    path: Path, *, input_column: str | None = None, output_column: str | None = None
) -> GoldenFile:
    """Read a golden set from JSON lines, CSV or Parquet.

    Raises:
        GoldenError: one sentence that names the file, the row and the remedy.
    """
    inputs = (input_column.lower(),) if input_column else _INPUTS
    outputs = (output_column.lower(),) if output_column else _OUTPUTS
    numbered = []
    for number, row in _read_rows(path):
        text = required_text(path, number, row, inputs)
        given = field(row, _IDS)
        example_id = str(given) if given is not None and str(given).strip() else content_id(text)
        verifier = field(row, _VERIFIERS)
        output = required_text(path, number, row, outputs)
        example = Example(example_id, text, output.strip(), str(verifier or "").strip())
        numbered.append((number, example))
    once, repeats = _once(numbered)
    _refuse_repeats(path, once, "id", lambda example: example.example_id)
    _refuse_repeats(path, once, "input", _said)
    return GoldenFile([example for _, example in once], repeats)


def _said(example: Example) -> str:
    return " ".join(example.input.split())


def _once(
    numbered: Sequence[tuple[int, Example]],
) -> tuple[list[tuple[int, Example]], dict[int, int]]:
    first: dict[tuple[str, str], int] = {}
    once, repeats = [], {}
    for number, example in numbered:
        said = _said(example), example.output
        if said in first:
            repeats[number] = first[said]
        else:
            first[said] = number
            once.append((number, example))
    return once, repeats


def content_id(text: str) -> str:
    """Return the id of an example whose file gives none: from the content of its input."""
    return f"golden-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _refuse_repeats(
    path: Path,
    numbered: Sequence[tuple[int, Example]],
    what: str,
    key: Callable[[Example], str],
) -> None:
    seen: dict[str, int] = {}
    for number, example in numbered:
        first = seen.setdefault(key(example), number)
        if first != number:
            raise GoldenError(
                f"{path}, row {number}: the {what} of row {first} again ({example.example_id}); "
                f"remove or change one of the two"
            )
