"""Outputs that are no labels, JSON or texts: personal data is masked in them, their form is kept.

Invariants:
* Only the texts within a value are masked; a number, a key and the form stay as they are.
* The form is judged by a function that the caller gives: nothing here knows a schema or a style.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ftdm_assets.records.contract import Problem
from ftdm_assets.records.personal_data import mask


@dataclass(frozen=True)
class OutputForm:
    """What outputs must look like.

    Attributes:
        read: a text's value; raises ValueError if it is of no such form.
        write: a value's one text.
        problem: what is wrong with a text; blank when nothing is.
        what: what an output is, for a person.
        rule: what it has to keep; names the checks.
        exclusive: whether of two outputs of one input one must be wrong.
    """

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    problem: Callable[[str], str]
    what: str = "JSON"
    rule: str = "schema"
    exclusive: bool = True

    def canonical(self, text: str) -> str:
        """Return a text in its one form, or as it is where it has none."""
        try:
            return self.write(self.read(text))
        except ValueError:
            return text

    def mask(self, text: str) -> tuple[str, tuple[str, ...]]:
        """Return the text with personal data masked, and the kinds that were found."""
        try:
            value = self.read(text)
        except ValueError:
            return mask(text)
        kinds: set[str] = set()
        masked = _masked(value, kinds)
        return (self.write(masked) if kinds else text), tuple(sorted(kinds))


def text_form(problems: Callable[[str], list[str]]) -> OutputForm:
    """Return the form of free texts: one may be said in many ways, all of the house style."""
    return OutputForm(
        str, str.strip, lambda text: "; ".join(problems(text)), "a text", "style", exclusive=False
    )


def _masked(value: Any, kinds: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, kinds) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, kinds) for item in value]
    if not isinstance(value, str):
        return value
    text, found = mask(value)
    kinds.update(found)
    return text


def wrong_outputs(frame: pd.DataFrame, form: OutputForm) -> list[Problem]:
    """Return a problem for each record whose output is not of the form; blank ones left out."""
    problems = []
    columns = (frame["row"], frame["record_id"], frame["output"])
    for number, record_id, output in zip(*columns, strict=True):
        if str(output).strip() and (found := form.problem(str(output))):
            reason = f"{found}; correct it at the source, or the {form.rule}"
            problems.append(Problem(int(number), str(record_id), "output", reason))
    return problems
