"""Makes orders.jsonl and dirt_key.jsonl from the parts, the catalogue and the golden set.

Run as `python -m ftdm_assets.models.order_extraction.make_orders`.

Invariants: the same parts and golden set give the same bytes on every machine; every row that is
not clean is in the key; no clean order is near another one or near a golden example, because one
that is gets drawn again.
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
from ftdm_assets.models.order_extraction import order_dirt
from ftdm_assets.models.order_extraction.order_dirt import COUNTS
from ftdm_assets.models.order_extraction.order_parts import (
    ANNOTATORS,
    HERE,
    Output,
    Parts,
    load_parts,
    output_of,
    output_text,
    stream,
)
from ftdm_assets.models.order_extraction.order_text import write_order
from ftdm_assets.records.duplicates import contaminated, near_pairs
from ftdm_assets.records.personal_data import find

DESK = Desk(prefix="O", source="order-desk-export")
ORDERS = 1420
_NEAR, _NEAR_GOLDEN = 0.68, 0.5
_MOST_ATTEMPTS = 20
_NEAR_BASE_CHARACTERS = 170
# In a shorter one the instruction would be most of the message, and it near to another.
_HIDDEN_BASE_CHARACTERS = 60


def clean_drafts(parts: Parts, golden: list[str]) -> tuple[list[Draft], dict[str, int]]:
    """Return the clean orders, and by key the attempt that drew each.

    Raises:
        RuntimeError: the parts are too few for so many orders.
    """
    keys = [f"order/{number:04d}" for number in range(ORDERS)]
    attempts = dict.fromkeys(keys, 0)
    drawn = {key: write_order(parts, stream("order", key, "0")) for key in keys}
    while again := _to_draw_again([drawn[key][0] for key in keys], golden):
        for place in again:
            key = keys[place]
            attempts[key] += 1
            if attempts[key] > _MOST_ATTEMPTS:
                raise RuntimeError(f"{key} is near another order each time: add sentences")
            drawn[key] = write_order(parts, stream("order", key, str(attempts[key])))
    return [_draft(key, *drawn[key]) for key in keys], attempts


def _to_draw_again(texts: list[str], golden: list[str]) -> list[int]:
    near = {pair.j for pair in near_pairs(texts, None, _NEAR)}
    near |= {pair.i for pair in contaminated(texts, golden, _NEAR_GOLDEN)}
    return sorted(near | {place for place, text in enumerate(texts) if find(text)})


def _draft(key: str, text: str, output: Output) -> Draft:
    rng = stream("annotation", key)
    annotator = rng.choices(ANNOTATORS, weights=(4, 3, 2, 2))[0]
    # Kept off the end of the period, so that copies have room after it.
    return Draft(key, text, output_text(output), annotator, rng.random() * 0.97)


def _can_be_reworded(text: str, parts: Parts) -> bool:
    """Say whether the text has enough words that can change without changing the answer."""
    return len({word for word, _ in parts.rewording.swaps} & set(text.split(" ")[1:-1])) > 2


def all_drafts(parts: Parts, golden: list[dict[str, str]]) -> list[Draft]:
    """Return every order, clean and not, in the order of annotation."""
    clean, attempts = clean_drafts(parts, [example["input"] for example in golden])
    pool = list(clean)
    stream("bases").shuffle(pool)
    can_change = [draft for draft in pool if _can_be_reworded(draft.text, parts)]
    near = take(can_change, COUNTS["near_duplicate"], _NEAR_BASE_CHARACTERS)
    pool = [draft for draft in pool if draft not in near]
    personal = [(base, attempts[base.key]) for base in take(pool, COUNTS["personal_data"])]
    exact = take(pool, COUNTS["exact_duplicate"])
    overlap = take(pool, COUNTS["overlap"])
    with_lines = [draft for draft in pool if '"lines":[]' not in draft.label]
    changed = [
        *order_dirt.personal_data(personal, parts),
        *order_dirt.wrong_labels(take(with_lines, COUNTS["wrong_label"]), parts),
        *order_dirt.invalid_json(take(with_lines, COUNTS["invalid_json"])),
        *order_dirt.schema_breaches(take(with_lines, COUNTS["schema_breach"])),
        *order_dirt.not_canonical(take(with_lines, COUNTS["not_canonical"])),
        *hidden_instructions(
            take(with_lines, COUNTS["hidden_instruction"], _HIDDEN_BASE_CHARACTERS),
            parts.sentences,
            lambda _: parts.sentences["hidden_slots"],
            stream,
        ),
    ]
    by_key = {draft.key: draft for draft in changed}
    drafts = [by_key.get(draft.key, draft) for draft in clean]
    said, leaks = parts.sentences, COUNTS["golden_leak"]
    ambiguous = (
        (case["text"], [output_text(output_of(label)) for label in case["labels"]])
        for case in said["ambiguous"]
    )
    pastes = [case | {"label": output_text(output_of(case["label"]))} for case in said["pastes"]]
    dissent = partial(order_dirt.dissent, parts)
    drafts += dirt.near_duplicates(near, parts.rewording, stream)
    drafts += dirt.exact_duplicates(exact, stream, keep_words=True)
    drafts += dirt.overlaps(overlap, ANNOTATORS, dissent, stream)
    drafts += dirt.conflicts(ambiguous, ANNOTATORS, stream)
    drafts += dirt.empties(COUNTS["empty"], [output_text(Output())], ANNOTATORS, stream)
    drafts += dirt.pastes(pastes, said["paste_lines"], ANNOTATORS, stream)
    leaking = [example for example in golden if _can_be_reworded(example["input"], parts)]
    drafts += dirt.golden_leaks(leaking, leaks, parts.rewording, ANNOTATORS, stream)
    return in_order(drafts)


def make(folder: Path = HERE) -> dict[str, str]:
    """Return the files' texts by name, from the parts and the golden set in `folder`."""
    drafts = all_drafts(load_parts(folder), read_jsonl(folder / "golden.jsonl"))
    return {
        "orders.jsonl": jsonl(label_rows(drafts, DESK)),
        "dirt_key.jsonl": jsonl(key_rows(drafts, DESK)),
    }


def main() -> None:
    """Write both files beside this module."""
    write(HERE, make())


if __name__ == "__main__":
    main()
