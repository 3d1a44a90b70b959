"""A person's review of a random sample, of records or of answers: the draw, the words, the count.

Invariants:
* The sample follows from the digest of what it is drawn from and the size alone: nobody chooses
  it, and anybody can draw it again.
* Every record drawn is answered exactly once; a skipped one is no judgement.
* What was not looked at is not accepted: half of the sample has to be judged.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SKIP = "skip"
_PURPOSE = b"ftdm sign-off sample of "
_LEAST_JUDGED = 2  # one in so many


class ReviewError(ValueError):
    """A review file or an answer that cannot be used; the message names line and remedy."""


@dataclass(frozen=True)
class Form:
    """What a person is shown of each record of a sample, and what may be said of it.

    Attributes:
        of: what the sample is drawn from; names its digest in a file.
        noun: what the records are, for a person.
        shown: the columns that a person sees beside the input.
        good: the word for a record that is right.
        bad: the word for one that is wrong.
        corrected: whether what is right may be said of a wrong one.
    """

    of: str
    noun: str
    shown: tuple[str, ...]
    good: str
    bad: str
    corrected: bool

    @property
    def words(self) -> tuple[str, ...]:
        """Return everything that may be said."""
        return self.good, self.bad, SKIP


LABELS = Form("dataset", "records", ("output",), "accept", "wrong_label", corrected=True)
ANSWERS = Form("scores", "answers", ("expected", "answered"), "right", "wrong", corrected=False)


@dataclass(frozen=True)
class Answered:
    """The answer to one record of the sample."""

    record_id: str
    digest: str
    answer: str
    right_label: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the answer for a statement; blank fields are left out."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class Tally:
    """What a review came to: records drawn, judged, and found to be wrong."""

    size: int
    judged: int
    errors: int

    @property
    def share(self) -> float:
        """Return the share of errors among the judged records; 1 where none was judged."""
        return self.errors / self.judged if self.judged else 1.0

    @property
    def enough(self) -> bool:
        """Say whether enough of the sample was judged."""
        return self.judged > 0 and self.judged * _LEAST_JUDGED >= self.size


def seed_of(digest: str) -> str:
    """Return the seed (hex) of a sample: it follows from the digest of what it is drawn from."""
    return hashlib.sha256(_PURPOSE + digest.encode()).hexdigest()


def draw(rows: Iterable[Mapping[str, Any]], seed: str, size: int) -> list[Mapping[str, Any]]:
    """Draw records by their ``digest``; the order of the rows decides nothing.

    Args:
        rows: all records.
        seed: from ``seed_of``.
        size: how many; of fewer records all are drawn.
    """
    return sorted(rows, key=lambda row: _rank(seed, str(row["digest"])))[:size]


def _rank(seed: str, digest: str) -> str:
    return hashlib.sha256(f"{seed}{digest}".encode()).hexdigest()


def tally(answers: Sequence[Mapping[str, str]]) -> Tally:
    """Count the answers of a review."""
    given = [answer["answer"] for answer in answers]
    errors = sum(given.count(form.bad) for form in (LABELS, ANSWERS))
    return Tally(len(given), len(given) - given.count(SKIP), errors)


def to_fill_in(
    digest: str, sample: Iterable[Mapping[str, Any]], form: Form = LABELS
) -> list[dict[str, Any]]:
    """Return the rows of a file in which a person answers elsewhere."""
    return [
        {
            form.of: digest,
            "digest": row["digest"],
            "record_id": row["record_id"],
            "input": row["input"],
            **{name: row[name] for name in form.shown},
            "answer": None,
            **({"right_label": ""} if form.corrected else {}),
            "note": "",
        }
        for row in sample
    ]


def read_answers(
    lines: Iterable[str],
    place: str,
    digest: str,
    sample: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    form: Form = LABELS,
) -> list[Answered]:
    """Read a filled-in file back, in the order of the sample.

    Raises:
        ReviewError: naming the line, what is wrong there and what to do.
    """
    known = {str(row["digest"]): row for row in sample}
    found: dict[str, Answered] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{place}, line {number}"
        row = _object(line, where)
        if row.get(form.of) != digest:
            raise ReviewError(
                f"{where}: it belongs to the {form.of} {str(row.get(form.of))[:12]}, current is "
                f"{digest[:12]}; export the sample again"
            )
        key = str(row.get("digest"))
        if key not in known:
            raise ReviewError(f"{where}: the record {key[:12]} is not in the sample; remove it")
        if key in found:
            raise ReviewError(f"{where}: the record {key[:12]} stands there twice; remove one")
        found[key] = answered(known[key], row, where, labels, form)
    missing = [row["record_id"] for row in sample if str(row["digest"]) not in found]
    if missing:
        raise ReviewError(
            f"{place}: {len(missing)} records of the sample have no line, the first is "
            f"{missing[0]}; answer every one (`skip` is an answer)"
        )
    return [found[str(row["digest"])] for row in sample]


def answered(
    record: Mapping[str, Any],
    given: Mapping[str, Any],
    where: str,
    labels: Sequence[str],
    form: Form = LABELS,
) -> Answered:
    """Return a person's word on one record.

    Raises:
        ReviewError: if it is none of the answers, or names a label that does not exist.
    """
    answer, right = given.get("answer"), str(given.get("right_label") or "").strip()
    if answer not in form.words:
        raise ReviewError(
            f"{where}: the answer is {answer!r}; write one of {', '.join(form.words)} "
            f"for record {record['record_id']}"
        )
    if right and not form.corrected:
        raise ReviewError(f"{where}: right_label has no place here; say it in `note`")
    if right and labels and right not in labels:
        raise ReviewError(f"{where}: {right!r} is no label of the taxonomy; correct right_label")
    if right and (answer != form.bad or right == record["output"]):
        raise ReviewError(
            f"{where}: right_label {right!r} goes with the answer {form.bad} and another label "
            "than the record has; correct the line"
        )
    note = str(given.get("note") or "").strip()
    return Answered(str(record["record_id"]), str(record["digest"]), str(answer), right, note)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ReviewError(f"{where}: expected a JSON object; export the sample again")
    return row
