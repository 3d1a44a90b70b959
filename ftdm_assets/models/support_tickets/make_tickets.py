"""Makes tickets.jsonl and dirt_key.jsonl from the parts and the golden set.

Run as `python -m ftdm_assets.models.support_tickets.make_tickets`.

Invariants: the same parts and golden set give the same bytes on every machine; every core of
parts.yaml becomes one ticket; every row that is not clean is in the key.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ftdm_assets.models.support_tickets import ticket_dirt as dirt
from ftdm_assets.models.support_tickets.ticket_parts import (
    ANNOTATORS,
    HERE,
    Draft,
    Parts,
    load_parts,
    stream,
)
from ftdm_assets.models.support_tickets.ticket_text import fill, render

FIRST_DAY = datetime(2026, 8, 3, 7, tzinfo=UTC)
DAYS = 88
DAY_SECONDS = 10 * 3600
NEAR_BASE_CHARACTERS = 150
MORE_SHARE, PASSING_SHARE = 0.5, 1 / 12
LONGEST_ADDITION = 1.3


def core_drafts(parts: Parts) -> list[Draft]:
    """Return one clean ticket for each core."""
    drafts = []
    for category, cores in parts.cores.items():
        for number, core in enumerate(cores):
            key = f"{category}/{number:02d}"
            rng = stream("annotation", key)
            annotator = rng.choices(ANNOTATORS, weights=(4, 3, 2, 2))[0]
            # Kept off the end of the period, so that copies have room after it.
            place = rng.random() * 0.97
            text = render(key, core, parts, more_to_say(key, category, number, parts))
            drafts.append(Draft(key, text, category, annotator, place))
    return drafts


def more_to_say(key: str, category: str, number: int, parts: Parts) -> str:
    """Return what the customer adds: nothing, more of the same matter, or another one in passing.

    Real tickets are of very different length; half of these say their matter in two ways, and one
    in twelve brings up a second matter at the end, which is not what it is about.
    """
    rng = stream("more", key)
    drawn = rng.random()
    if drawn < MORE_SHARE:
        cores = parts.cores[category]
        # Less than half way round, so that no two tickets say the same two things.
        other = cores[(number + rng.randrange(1, (len(cores) + 1) // 2)) % len(cores)]
        # Behind a much shorter core it would be all of the ticket, and near its own one.
        if len(other) > LONGEST_ADDITION * len(cores[number]):
            return ""
    elif drawn < MORE_SHARE + PASSING_SHARE:
        category = rng.choice([name for name in parts.cores if name != category])
        other = f"{rng.choice(parts.shared['passing'])} {rng.choice(parts.cores[category])}"
    else:
        return ""
    return fill(other, parts.slots, rng)


def _take(pool: list[Draft], count: int, shortest: int = 0) -> list[Draft]:
    taken = [draft for draft in pool if len(draft.text) >= shortest][:count]
    keys = {draft.key for draft in taken}
    pool[:] = [draft for draft in pool if draft.key not in keys]
    return taken


def all_drafts(parts: Parts, golden: list[dict[str, str]]) -> list[Draft]:
    """Return every ticket, clean and not, in the order of annotation."""
    clean = core_drafts(parts)
    pool = list(clean)
    stream("bases").shuffle(pool)
    near = _take(pool, dirt.COUNTS["near_duplicate"], NEAR_BASE_CHARACTERS)
    personal = dirt.personal_data(_take(pool, dirt.COUNTS["personal_data"]), parts)
    exact = _take(pool, dirt.COUNTS["exact_duplicate"])
    wrong = dirt.wrong_labels(_take(pool, dirt.COUNTS["wrong_label"]), parts)
    overlap = _take(pool, dirt.COUNTS["overlap"])
    changed = {draft.key: draft for draft in (*personal, *wrong)}
    drafts = [changed.get(draft.key, draft) for draft in clean]
    drafts += dirt.near_duplicates(near, parts) + dirt.exact_duplicates(exact)
    drafts += dirt.overlaps(overlap, parts) + dirt.conflicts(parts) + dirt.empties(parts)
    drafts += dirt.pastes(parts) + dirt.golden_leaks(golden, parts)
    return sorted(drafts, key=lambda draft: (draft.place, draft.key))


def _annotated_at(place: float) -> str:
    day, share = divmod(place * DAYS, 1.0)
    moment = FIRST_DAY + timedelta(days=int(day), seconds=int(share * DAY_SECONDS))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def ticket_rows(drafts: Sequence[Draft]) -> list[dict[str, str]]:
    """Return the raw annotations, as a help desk exports them."""
    return [
        {
            "record_id": f"T-{number:05d}",
            "input": draft.text,
            "output": draft.label,
            "annotator": draft.annotator,
            "annotated_at": _annotated_at(draft.place),
            "source": "helpdesk-export",
            "data_class": "internal",
        }
        for number, draft in enumerate(drafts, start=1)
    ]


def key_rows(drafts: Sequence[Draft]) -> list[dict[str, str]]:
    """Return the key of the planted dirt; `related` is a record id, a golden id or empty."""
    ids = {draft.key: f"T-{number:05d}" for number, draft in enumerate(drafts, start=1)}
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


def jsonl(rows: Iterable[dict[str, str]]) -> str:
    """Return the rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def make(folder: Path = HERE) -> dict[str, str]:
    """Return the files' texts by name, from the parts and the golden set in `folder`."""
    golden_file = folder / "golden.jsonl"
    lines = golden_file.read_text(encoding="utf-8").split("\n")
    golden = [json.loads(line) for line in lines if line]
    drafts = all_drafts(load_parts(folder), golden)
    return {"tickets.jsonl": jsonl(ticket_rows(drafts)), "dirt_key.jsonl": jsonl(key_rows(drafts))}


def main() -> None:
    """Write both files beside this module."""
    for name, text in make().items():
        aside = HERE / f".{name}.tmp"
        aside.write_bytes(text.encode())
        aside.replace(HERE / name)
        sys.stdout.write(f"{name}: {text.count(chr(10))} rows\n")


if __name__ == "__main__":
    main()
