"""Plants the dirt that is the tickets' own: wrong categories and personal data.

Invariants: a base ticket carries at most one kind of dirt; labels stay within the taxonomy.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ftdm_assets.made_data.drafts import Draft
from ftdm_assets.models.support_tickets.ticket_parts import Parts, stream
from ftdm_assets.models.support_tickets.ticket_text import fill, render

COUNTS = {
    "near_duplicate": 40,
    "personal_data": 30,
    "hidden_instruction": 320,
    "exact_duplicate": 40,
    "wrong_label": 40,
    "overlap": 160,
    "conflict": 20,
    "empty": 12,
    "too_long": 8,
    "golden_leak": 15,
}


def wrong_labels(bases: Iterable[Draft], parts: Parts) -> list[Draft]:
    """Return the bases with a clearly wrong label (no neighbour of the right one)."""
    neighbours: Mapping[str, list[str]] = parts.shared["neighbours"]
    drafts = []
    for base in bases:
        near = {base.label, *neighbours[base.label]}
        near |= {label for label, others in neighbours.items() if base.label in others}
        wrong = stream("wrong", base.key).choice([c for c in parts.cores if c not in near])
        drafts.append(
            replace(
                base,
                label=wrong,
                kind="wrong_label",
                detail=f"right label: {base.label}",
                expected="dropped",
            )
        )
    return drafts


def personal_data(bases: Iterable[Draft], parts: Parts) -> list[Draft]:
    """Return the bases with a mail address, phone, card or account number in them."""
    drafts = []
    for base in bases:
        rng = stream("personal", base.key)
        money = base.label in parts.shared["money_categories"]
        kinds = [rng.choice(["CARD", "IBAN"] if money else ["EMAIL", "PHONE"])]
        if rng.random() < 0.2:
            kinds.append("EMAIL" if kinds[0] != "EMAIL" else "PHONE")
        values = parts.shared["personal_values"]
        sentences = [fill(rng.choice(parts.shared["personal"][k]), values, rng) for k in kinds]
        category, number = base.key.split("/")
        text = render(base.key, parts.cores[category][int(number)], parts, " ".join(sentences))
        drafts.append(
            replace(
                base,
                text=text,
                kind="personal_data",
                detail=",".join(sorted(kinds)),
                expected="masked",
            )
        )
    return drafts


def neighbour(parts: Parts, base: Draft, rng: random.Random) -> str:
    """Return the label of an annotator who dissents: a neighbour of the right one."""
    near: list[str] = parts.shared["neighbours"][base.label]
    return rng.choice(near)
