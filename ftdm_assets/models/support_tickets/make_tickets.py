"""Makes tickets.jsonl and dirt_key.jsonl from the parts and the golden set.

Run as `python -m ftdm_assets.models.support_tickets.make_tickets`.

Invariants: the same parts and golden set give the same bytes on every machine; every core of
parts.yaml becomes one ticket; every row that is not clean is in the key.
"""

from functools import partial
from pathlib import Path

from ftdm_assets.made_data import dirt
from ftdm_assets.made_data.drafts import (
    Desk,
    Draft,
    in_order,
    jsonl,
    key_rows,
    label_rows,
    read_jsonl,
    take,
    write,
)
from ftdm_assets.made_data.hidden import hidden_instructions
from ftdm_assets.models.support_tickets.ticket_dirt import (
    COUNTS,
    neighbour,
    personal_data,
    wrong_labels,
)
from ftdm_assets.models.support_tickets.ticket_parts import (
    ANNOTATORS,
    HERE,
    Parts,
    load_parts,
    stream,
)
from ftdm_assets.models.support_tickets.ticket_text import fill, render

DESK = Desk(prefix="T", source="helpdesk-export")
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


def all_drafts(parts: Parts, golden: list[dict[str, str]]) -> list[Draft]:
    """Return every ticket, clean and not, in the order of annotation."""
    clean = core_drafts(parts)
    pool = list(clean)
    stream("bases").shuffle(pool)
    near = take(pool, COUNTS["near_duplicate"], NEAR_BASE_CHARACTERS)
    personal = personal_data(take(pool, COUNTS["personal_data"]), parts)
    exact = take(pool, COUNTS["exact_duplicate"])
    wrong = wrong_labels(take(pool, COUNTS["wrong_label"]), parts)
    overlap = take(pool, COUNTS["overlap"])
    # Taken last: what the others are drawn from stays as it was without them.
    others = {label: {"other": [name for name in parts.cores if name != label]}
              for label in parts.cores}  # fmt: skip
    hidden = hidden_instructions(
        take(pool, COUNTS["hidden_instruction"]),
        parts.shared,
        lambda base: others[base.label],
        stream,
    )
    changed = {draft.key: draft for draft in (*personal, *wrong, *hidden)}
    drafts = [changed.get(draft.key, draft) for draft in clean]
    shared = parts.shared
    ambiguous = ((case["text"], case["labels"]) for case in shared["ambiguous"])
    drafts += dirt.near_duplicates(near, parts.rewording, stream)
    drafts += dirt.exact_duplicates(exact, stream)
    drafts += dirt.overlaps(overlap, ANNOTATORS, partial(neighbour, parts), stream)
    drafts += dirt.conflicts(ambiguous, ANNOTATORS, stream)
    drafts += dirt.empties(COUNTS["empty"], list(parts.cores), ANNOTATORS, stream)
    drafts += dirt.pastes(shared["pastes"], shared["paste_lines"], ANNOTATORS, stream)
    drafts += dirt.golden_leaks(golden, COUNTS["golden_leak"], parts.rewording, ANNOTATORS, stream)
    return in_order(drafts)


def make(folder: Path = HERE) -> dict[str, str]:
    """Return the files' texts by name, from the parts and the golden set in `folder`."""
    drafts = all_drafts(load_parts(folder), read_jsonl(folder / "golden.jsonl"))
    return {
        "tickets.jsonl": jsonl(label_rows(drafts, DESK)),
        "dirt_key.jsonl": jsonl(key_rows(drafts, DESK)),
    }


def main() -> None:
    """Write both files beside this module."""
    write(HERE, make())


if __name__ == "__main__":
    main()
