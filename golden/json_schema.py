"""A JSON schema that answers have to keep.

Invariants:
* Nothing is fetched: a reference out of the schema's own file is refused when it is read.
* A fixed list of formats is checked, so that a verdict does not depend on what is installed.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import FormatChecker, SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry

from golden.json_values import parse_json
from golden.tables import GoldenError

_FORMATS = ("date", "email", "ipv4", "ipv6", "uuid")


class AnswerSchema:
    """What an answer must look like; two with the same document are the same."""

    def __init__(self, document: Mapping[str, Any], where: str = "the schema") -> None:
        """Check the schema itself.

        Raises:
            GoldenError: naming what is wrong with it.
        """
        self.document = dict(document)
        kind = validator_for(self.document, default=Draft202012Validator)
        try:
            kind.check_schema(self.document)
        except SchemaError as error:
            raise GoldenError(
                f"{where}: no valid JSON schema at {_place(error)} ({error.message[:200]}); mend it"
            ) from None
        for reference in _references(self.document):
            if not reference.startswith("#"):
                raise GoldenError(
                    f"{where}: refers to {reference!r}; copy what it means into this file, "
                    "nothing is fetched"
                )
        self._validator: Validator = kind(
            self.document, format_checker=FormatChecker(_FORMATS), registry=Registry()
        )

    def __eq__(self, other: object) -> bool:
        """Compare by document."""
        return isinstance(other, AnswerSchema) and other.document == self.document

    __hash__ = None  # type: ignore[assignment]

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, with the place; blank when nothing is."""
        found = sorted(self._validator.iter_errors(value), key=lambda e: (len(e.path), _place(e)))
        return f"{_place(found[0])}: {found[0].message[:200]}" if found else ""


def read_schema(path: Path) -> AnswerSchema:
    """Read a JSON-schema file.

    Raises:
        GoldenError: naming the file and what is wrong.
    """
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GoldenError(f"{path}: no such file; check the path in the model's settings") from None
    except ValueError as error:
        raise GoldenError(f"{path}: not valid JSON ({error}); mend the file") from None
    if not isinstance(document, dict):
        raise GoldenError(f"{path}: a JSON schema is an object; write one")
    return AnswerSchema(document, str(path))


def _place(error: Any) -> str:
    return str(error.json_path)


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in {"$ref", "$dynamicRef"} and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for item in part:
            yield from _references(item)
