"""Small changes of a ticket's text that make an exact or a near duplicate.

Invariants: an exact duplicate has its original's letters and digits in the same order; a near
duplicate differs in words and has a character 3-gram similarity of at least the floor asked for.
"""

import random

from ftdm_assets.models.support_tickets.ticket_parts import Parts, comparison_key, similarity


def retyped(text: str, rng: random.Random) -> str:
    """Return the text with other case, white space or final marks, never the same string."""
    ways = [
        text.lower(),
        text.upper(),
        text.replace(". ", ".  ").replace("\n\n", "\n") + " ",
        text.rstrip(".!? ") + "!!",
        "  " + text + "\n",
        text.replace(", ", " ").replace(". ", " ... "),
    ]
    rng.shuffle(ways)
    return next(way for way in ways if way != text)


def _edited_once(words: list[str], changes: dict[str, str], rng: random.Random) -> list[str]:
    places = [at for at in range(1, len(words) - 1) if words[at] in changes]
    if not places:
        return words
    at = rng.choice(places)
    new = changes[words[at]]
    return [*words[:at], *([new] if new else []), *words[at + 1 :]]


def reworded(text: str, parts: Parts, floor: float, rng: random.Random) -> str:
    """Return the text with a word or two changed, similarity at least `floor`.

    Raises:
        ValueError: 200 tries gave no such text (it is too short).
    """
    swapped = {pair[0]: pair[1] for pair in parts.shared["swaps"]}
    table = swapped | {word: "" for word in parts.shared["droppable"] if rng.random() < 0.5}
    for _ in range(200):
        words = _edited_once(text.split(" "), table, rng)
        if rng.random() < 0.5:
            words = _edited_once(words, table, rng)
        changed = " ".join(words)
        if comparison_key(changed) != comparison_key(text) and similarity(changed, text) >= floor:
            return changed
    raise ValueError(f"no near duplicate found for the ticket {text!r}: choose a longer one")
