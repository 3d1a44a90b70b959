"""Renders one ticket: opening, filler, core with its slots filled, closing, typing noise.

Invariants: the core's wording is kept but for the noise (about 15 % of tickets), noise never
touches a slot, and a casual core (lower case at its start) gets casual surroundings.
"""

import random
import re

from ftdm_assets.made_data.edits import common_first, misspelt
from ftdm_assets.models.support_tickets.ticket_parts import Parts, stream

_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) \{(\w+)\}")


def fill(text: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    """Fill every slot in braces; "a" becomes "an" before a vowel."""

    def with_article(found: re.Match[str]) -> str:
        value = rng.choice(slots[found[2]])
        return f"{found[1]}{'n' if value[0] in 'AEIOaeio' else ''} {value}"

    return _SLOT.sub(lambda found: rng.choice(slots[found[1]]), _ARTICLE.sub(with_article, text))


def add_noise(text: str, rng: random.Random) -> str:
    """Return the text as a hurried customer types it: typos, or casing and marks left out."""
    how = rng.randrange(4)
    if how == 0:
        return text.lower()
    if how == 1:
        return text.lower().replace("'", "").rstrip(".")
    return misspelt(text, how - 1, rng)


def _joined(sentences: list[str]) -> str:
    *before, last = sentences
    ended = [part + "." if part[-1].isalnum() else part for part in before]
    return " ".join([*ended, last])


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if not text.startswith(("I ", "I'")) else text


def render(key: str, core: str, parts: Parts, extra: str = "") -> str:
    """Return the ticket of the core called `key`; `extra` is a sentence put after the core."""
    rng = stream("ticket", key)
    opening = common_first(parts.openings, rng) if rng.random() < 0.35 else ""
    closing = common_first(parts.closings, rng) if rng.random() < 0.35 else ""
    filler = rng.choice(parts.fillers) if rng.random() < 0.1 and len(core) > 60 else ""
    if core[0].islower():
        opening, filler, closing = (_lower_first(part) for part in (opening, filler, closing))
    if rng.random() < 0.15:
        core = add_noise(core, rng)
    core = fill(core, parts.slots, rng)
    body = [filler, core, extra] if rng.random() < 0.5 else [core, filler, extra]
    middle = _joined([part for part in body if part])
    line_break = "\n\n" if rng.random() < 0.25 else " "
    if closing and middle[-1].isalnum():
        middle += "." if line_break == " " else ""
    return line_break.join(part for part in (opening, middle, closing) if part)
