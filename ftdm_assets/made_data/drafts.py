"""Drafts of annotations, and the files that they become: the labels and the key of their dirt.

Invariants:
* Nothing here draws from a global random source. Each draw comes from a stream named by what is
  drawn, so that editing one part leaves the other rows as they are.
* The same drafts give the same bytes on every machine; every draft that is not clean is in the key.
"""

import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

Stream = Callable[..., random.Random]

_DAYS = 88
_DAY_SECONDS = 10 * 3600


@dataclass(frozen=True)
class Draft:
    """An annotation before it has an id; `kind` is empty for a clean one.

    `place` is when it was annotated, as a share of the period (0 to 1).
    `related` is the key of another draft or the id of a golden example.
    """

    key: str
    text: str
    label: str
    annotator: str
    place: float
    kind: str = ""
    detail: str = ""
    expected: str = ""
    related: str = ""


@dataclass(frozen=True)
class Desk:
    """Where the annotations are said to come from.

    Attributes:
        prefix: the record ids' first letters.
        source: the column of that name.
        first_day: when its first day of labelling begins.
    """

    prefix: str
    source: str
    first_day: datetime = datetime(2026, 8, 3, 7, tzinfo=UTC)


def seeded(seed: str) -> Stream:
    """Return what gives the random stream of a name: the same on every machine."""

    def stream(*name: str) -> random.Random:
        return random.Random("/".join((seed, *name)))  # noqa: S311 (no secret is drawn)

    return stream


def later(place: float, rng: random.Random) -> float:
    """Return a place after this one."""
    return place + (1.0 - place) * rng.random()


def take(pool: list[Draft], count: int, shortest: int = 0) -> list[Draft]:
    """Take the first `count` drafts of a length out of the pool."""
    taken = [draft for draft in pool if len(draft.text) >= shortest][:count]
    keys = {draft.key for draft in taken}
    pool[:] = [draft for draft in pool if draft.key not in keys]
    return taken


def in_order(drafts: Iterable[Draft]) -> list[Draft]:
    """Return the drafts in the order of their annotation."""
    return sorted(drafts, key=lambda draft: (draft.place, draft.key))


def label_rows(drafts: Sequence[Draft], desk: Desk) -> list[dict[str, str]]:
    """Return the raw annotations, as a desk exports them."""
    return [
        {
            "record_id": _record_id(number, desk),
            "input": draft.text,
            "output": draft.label,
            "annotator": draft.annotator,
            "annotated_at": _annotated_at(draft.place, desk),
            "source": desk.source,
            "data_class": "internal",
        }
        for number, draft in enumerate(drafts, start=1)
    ]


def key_rows(drafts: Sequence[Draft], desk: Desk) -> list[dict[str, str]]:
    """Return the key of the planted dirt; `related` is a record id, a golden id or empty."""
    ids = {draft.key: _record_id(number, desk) for number, draft in enumerate(drafts, start=1)}
    return [
        {
            "record_id": ids[draft.key],
            "kind": draft.kind,
            "detail": draft.detail,
            "expected": draft.expected,
            "related": ids.get(draft.related, draft.related),
        }
        for draft in drafts
        if draft.kind
    ]


def _record_id(number: int, desk: Desk) -> str:
    return f"{desk.prefix}-{number:05d}"


def _annotated_at(place: float, desk: Desk) -> str:
    day, share = divmod(place * _DAYS, 1.0)
    moment = desk.first_day + timedelta(days=int(day), seconds=int(share * _DAY_SECONDS))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def jsonl(rows: Iterable[dict[str, str]]) -> str:
    """Return the rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_jsonl(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write(folder: Path, made: Mapping[str, str]) -> None:
    """Write the files, each aside first, and say how many lines each has."""
    for name, text in made.items():
        aside = folder / f".{name}.tmp"
        aside.write_bytes(text.encode())
        aside.replace(folder / name)
        sys.stdout.write(f"{name}: {text.count(chr(10))} lines\n")
