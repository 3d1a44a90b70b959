"""Golden examples: human-verified inputs with the output that is right, never trained on.

Invariants:
* Every example has an id of its own. Without one in the file it is made from the input's content,
  so that the scores of two versions of the set can be paired example by example.
* Two examples never share an input: one question cannot count twice. A row that says once more
  what an earlier row says is counted once and named; one that says otherwise is refused.
* An output that is JSON is kept in its canonical form, whatever kind of file it comes from.
"""

import hashlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden.json_values import canonical_text, parse_json
from golden.tables import GoldenError, field, required_text
from golden.tables import read_rows as _read_rows

_INPUTS = ("input", "text", "utterance", "ticket", "message", "body", "question", "prompt")
_OUTPUTS = ("output", "label", "category", "intent", "answer", "completion", "target", "class")
_IDS = ("example_id", "id", "record_id")
_VERIFIERS = ("verified_by", "verifier", "reviewer")
_PHRASES = ("required", "forbidden")

__all__ = ["Example", "GoldenError", "GoldenFile", "read_examples", "read_golden_file"]


@dataclass(frozen=True)
class Example:
    """One golden example.

    Attributes:
        verified_by: empty when the file does not say.
        required: phrases that a generated answer must hold.
        forbidden: phrases that it must not hold.
    """

    example_id: str
    input: str
    output: str
    verified_by: str
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the example as it is stored: phrases only where there are some."""
        phrases = {"required": list(self.required), "forbidden": list(self.forbidden)}
        given = {name: value for name, value in phrases.items() if value}
        return {name: value for name, value in vars(self).items() if name not in phrases} | given

    @staticmethod
    def of_row(row: Mapping[str, Any]) -> "Example":
        """Return the example of a stored row."""
        phrases = (tuple(row.get(name, ())) for name in ("required", "forbidden"))
        texts = (row[name] for name in ("example_id", "input", "output", "verified_by"))
        return Example(*texts, *phrases)


@dataclass(frozen=True)
class GoldenFile:
    """A golden file's examples; `repeats` maps a row that was left out to the row it repeats."""

    examples: list[Example]
    repeats: dict[int, int]


def read_examples(
    path: Path,
    *,
    input_column: str | None = None,
    output_column: str | None = None,
    json_output: bool = False,
) -> list[Example]:
    """Read the examples of a golden file; see `read_golden_file`.

    Raises:
        GoldenError: one sentence that names the file, the row and the remedy.
    """
    return read_golden_file(
        path, input_column=input_column, output_column=output_column, json_output=json_output
    ).examples


def read_golden_file(
    path: Path,
    *,
    input_column: str | None = None,
    output_column: str | None = None,
    json_output: bool = False,
) -> GoldenFile:
    """Read a golden set from JSON lines, CSV or Parquet.

    Args:
        path: the file.
        input_column: the column that holds the inputs, if it has no usual name.
        output_column: the column that holds the outputs, if it has no usual name.
        json_output: outputs are JSON: values, or texts of them.

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
        read_output = _json_output if json_output else required_text
        output = read_output(path, number, row, outputs)
        required, forbidden = (_phrases(path, number, row, name) for name in _PHRASES)
        example = Example(
            example_id, text, output.strip(), str(verifier or "").strip(), required, forbidden
        )
        numbered.append((number, example))
    once, repeats = _once(numbered)
    _refuse_repeats(path, once, "id", lambda example: example.example_id)
    _refuse_repeats(path, once, "input", _said)
    return GoldenFile([example for _, example in once], repeats)


def chosen(
    examples: Sequence[Example], only: Container[str] | None, sample: int | None
) -> list[Example]:
    """Return the examples with these outputs, and of them a sample drawn by content."""
    kept = [example for example in examples if only is None or example.output in only]
    if sample is None:
        return kept
    return sorted(kept, key=lambda e: hashlib.sha256(e.input.encode()).hexdigest())[:sample]


def _json_output(path: Path, number: int, row: dict[str, Any], names: Sequence[str]) -> str:
    value = field(row, names)
    try:
        if isinstance(value, dict | list):
            return canonical_text(value)
        return canonical_text(parse_json(required_text(path, number, row, names)))
    except GoldenError:
        raise
    except ValueError as error:
        raise GoldenError(
            f"{path}, row {number}: the output is no JSON ({error}); write a JSON value"
        ) from None


def _phrases(path: Path, number: int, row: dict[str, Any], name: str) -> tuple[str, ...]:
    value = field(row, (name, f"{name}_phrases"))
    if value is None:
        return ()
    phrases = [value] if isinstance(value, str) else value
    if not isinstance(phrases, list) or not all(isinstance(p, str) and p.strip() for p in phrases):
        raise GoldenError(f"{path}, row {number}: {name} must be a list of phrases, none blank")
    return tuple(phrases)


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
