"""What an answer says that it can only have from elsewhere: others' words, given out again.

Invariants:
* Only runs of words count, and none that stands in the answer's own input or in what is right to
  answer: an answer may quote what it was asked. Case and punctuation hide nothing.
* A training record's words are its own only where no other record says them: what several say is a
  turn of phrase, or was taught as an answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from golden.examples import Example
from golden.rouge import words
from golden.tasks import Answers, Document

# Shorter runs are common turns of phrase: "thank you for your help with this".
RUN = 8
# Training records are many. Of BANKING77's test questions that have as many words, 12.7 % share
# eight words in a row with exactly one training question, and 2.1 % thirteen.
RECORD_RUN = 13

Run = tuple[str, ...]


def free_answers(kind: str, rows: Iterable[Document]) -> dict[str, str]:
    """Return by example id the answers that could hold words of others.

    Args:
        kind: the name of the kind of task; a valid answer of a classification is a label.
        rows: how each example was answered, as the kind's scores tell it.
    """
    return {
        row["example_id"]: row["predicted"]
        for row in rows
        if row["predicted"] and not (kind == "classification" and row["valid"])
    }


def echoes(examples: Sequence[Example], answers: Answers) -> dict[str, str]:
    """Return, by the id of an answered example, the example whose words its answer gives out.

    Args:
        examples: whose inputs must not come out, and whose answers are looked at.
        answers: answers by example id; those of other ids are passed over.
    """
    strange = _strange(examples, answers, RUN)
    found: dict[str, str] = {}
    for example in examples if strange else ():
        for run in _runs(example.input, RUN):
            for answered in strange.get(run, ()):
                found.setdefault(answered, example.example_id)
    return found


def record_echoes(
    examples: Sequence[Example], answers: Answers, records: Iterable[Mapping[str, Any]]
) -> dict[str, str]:
    """Return, by the id of an answered example, the record whose input its answer gives out.

    Args:
        examples: whose answers are looked at.
        answers: answers by example id; those of other ids are passed over.
        records: rows with ``record_id``, ``input`` and ``output``.
    """
    strange = _strange(examples, answers, RECORD_RUN)
    asked: dict[Run, str] = {}
    sayers: dict[Run, int] = {}
    for record in records if strange else ():
        inputs = _runs(record["input"], RECORD_RUN)
        for run in strange.keys() & (inputs | _runs(record["output"], RECORD_RUN)):
            sayers[run] = sayers.get(run, 0) + 1
            if run in inputs:
                asked.setdefault(run, record["record_id"])
    found: dict[str, str] = {}
    for run, record_id in asked.items():
        for answered in strange[run] if sayers[run] == 1 else ():
            found.setdefault(answered, record_id)
    return found


def _strange(examples: Sequence[Example], answers: Answers, length: int) -> dict[Run, list[str]]:
    """Return the runs that answers did not find in what was asked, and which answers say them."""
    found: dict[Run, list[str]] = {}
    for example in examples:
        said = _runs(answers.get(example.example_id) or "", length)
        if said:
            said -= _runs(example.input, length) | _runs(example.output, length)
        for run in said:
            found.setdefault(run, []).append(example.example_id)
    return found


def _runs(text: str, length: int) -> set[Run]:
    said = words(text)
    return {tuple(said[at : at + length]) for at in range(len(said) - length + 1)}
