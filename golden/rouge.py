"""ROUGE-L: how much of two texts is one common sequence of words.

Invariants:
* On ASCII texts the values are those of Google's ``rouge-score`` without stemming; words of other
  scripts count as words here, there they are dropped.
"""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return a text's words in lower case."""
    return _WORD.findall(text.lower())


def rouge_l(expected: str, predicted: str) -> float:
    """Return the F-measure (0-1) of the longest common sequence of words."""
    wanted, found = words(expected), words(predicted)
    if not wanted or not found:
        return 0.0
    return 2 * longest_common(wanted, found) / (len(wanted) + len(found))


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    A column of the usual table is one integer (Hyyrö 2004), so that two texts of thousands of words
    take milliseconds.
    """
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & every
    return len(one) - row.bit_count()
