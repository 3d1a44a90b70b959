"""Small changes of a text: what makes an exact or a near duplicate, and the noise of typing.

Invariants: an exact duplicate has its original's letters and digits in the same order; a near
duplicate differs in words and has a character 3-gram similarity of at least the floor asked for.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rewording:
    """Words that may be swapped for another, and words that may be left out."""

    swaps: Sequence[tuple[str, str]]
    droppable: Sequence[str]


def trigrams(text: str) -> frozenset[str]:
    """Return the set of character 3-grams of the text, lower case, white space squeezed."""
    squeezed = " ".join(text.lower().split())
    return frozenset(squeezed[i : i + 3] for i in range(len(squeezed) - 2))


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of the two texts' character 3-grams."""
    a, b = trigrams(one), trigrams(other)
    return len(a & b) / len(a | b) if a | b else 1.0


def comparison_key(text: str) -> str:
    """Return the text without case, punctuation and white space."""
    return re.sub(r"[\W_]+", "", text.lower())


def retyped(text: str, rng: random.Random, *, keep_words: bool = False) -> str:
    """Return the text with other case, white space or final marks, never the same string.

    With `keep_words` its words and the commas between them stay as they are written.
    """
    ways = [
        text.replace(". ", ".  ").replace("\n\n", "\n") + " ",
        text.rstrip(".!? ") + "!!",
        "  " + text + "\n",
    ]
    if not keep_words:
        ways = [text.lower(), text.upper(), *ways, text.replace(", ", " ").replace(". ", " ... ")]
    rng.shuffle(ways)
    return next(way for way in ways if way != text)


def _edited_once(words: list[str], changes: dict[str, str], rng: random.Random) -> list[str]:
    places = [at for at in range(1, len(words) - 1) if words[at] in changes]
    if not places:
        return words
    at = rng.choice(places)
    new = changes[words[at]]
    return [*words[:at], *([new] if new else []), *words[at + 1 :]]


def reworded(text: str, rewording: Rewording, floor: float, rng: random.Random) -> str:
    """Return the text with a word or two changed, similarity at least `floor`.

    Raises:
        ValueError: 200 tries gave no such text (it is too short).
    """
    swapped = dict(rewording.swaps)
    table = swapped | {word: "" for word in rewording.droppable if rng.random() < 0.5}
    for _ in range(200):
        words = _edited_once(text.split(" "), table, rng)
        if rng.random() < 0.5:
            words = _edited_once(words, table, rng)
        changed = " ".join(words)
        if comparison_key(changed) != comparison_key(text) and similarity(changed, text) >= floor:
            return changed
    raise ValueError(f"no near duplicate found for the text {text!r}: choose a longer one")


def _misspell(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 2)
    how = rng.randrange(3)
    if how == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if how == 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]


def misspelt(text: str, count: int, rng: random.Random) -> str:
    """Return the text with a typing error in up to `count` of its longer words."""
    words = text.split(" ")
    long_words = [i for i, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    for at in rng.sample(long_words, min(count, len(long_words))):
        words[at] = _misspell(words[at], rng)
    return " ".join(words)


def common_first(phrases: Sequence[str], rng: random.Random) -> str:
    """Draw a phrase; the first ones are by far the most common, as in real mail.

    Drawn evenly, a rare phrase would stand in a dozen texts and look like a sign of their labels.
    """
    weights = [1 / (rank + 1) ** 1.5 for rank in range(len(phrases))]
    return rng.choices(phrases, weights)[0]


def rewording(pairs: Iterable[Sequence[str]], droppable: Sequence[str]) -> Rewording:
    """Return the rewording of the parts' lists."""
    return Rewording([(pair[0], pair[1]) for pair in pairs], droppable)
