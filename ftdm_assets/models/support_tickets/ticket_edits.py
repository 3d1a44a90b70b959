"""Small changes of a ticket's text that make an exact or a near duplicate.

Invariants: an exact duplicate has its original's letters and digits in the same order; a near
duplicate differs in words and has a character 3-gram similarity of at least the floor asked for.
"""

import random
from collections.abc import Sequence

from ftdm_assets.models.support_tickets.ticket_parts import comparison_key, similarity


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


def _edited_once(words: list[str], swaps: dict[str, str], rng: random.Random) -> list[str]:
    if len(words) < 3:
        return words
    at = rng.randrange(1, len(words) - 1)
    word = words[at]
    if word in swaps:
        return [*words[:at], swaps[word], *words[at + 1 :]]
    if word.isalpha() and word.islower() and len(word) <= 5:
        return words[:at] + words[at + 1 :]
    return words


def reworded(text: str, swaps: Sequence[Sequence[str]], floor: float, rng: random.Random) -> str:
    """Return the text with a word or two changed, similarity at least `floor`.

    Raises:
        ValueError: 200 tries gave no such text (it is too short).
    """
    table: dict[str, str] = {pair[0]: pair[1] for pair in swaps}
    for _ in range(200):
        words = _edited_once(text.split(" "), table, rng)
        if rng.random() < 0.5:
            words = _edited_once(words, table, rng)
        changed = " ".join(words)
        if comparison_key(changed) != comparison_key(text) and similarity(changed, text) >= floor:
            return changed
    raise ValueError(f"no near duplicate found for the ticket {text!r}: choose a longer one")
