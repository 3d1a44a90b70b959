"""Which texts are the same, or nearly so: exact recall, no hashing tricks, no chance.

Two texts are near when the Jaccard similarity of their sets of character 3-grams (lower case,
without punctuation, white space squeezed) reaches the threshold. Grams of words are offered too:
they compare with published figures, but one changed word in ten hides a copy from them.

Invariants:
* Every pair at or above the threshold is found, and none below it.
* The result depends on the texts only; pairs are sorted, memory is bounded by the block size.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

_NOT_WORDS = re.compile(r"[^\w\s]")
_GRAM = 3
_BLOCK_CELLS = 4_000_000

Shingles = Callable[[str], frozenset[str]]


@dataclass(frozen=True, order=True)
class Pair:
    """Two near texts by their positions; within one list ``i`` < ``j``."""

    i: int
    j: int
    similarity: float


def _words(text: str) -> list[str]:
    return _NOT_WORDS.sub("", text.lower()).split() or text.split()


def character_grams(text: str) -> frozenset[str]:
    """Return the set of character 3-grams of a text; a shorter text is one gram."""
    plain = " ".join(_words(text))
    return frozenset(plain[start : start + _GRAM] for start in range(max(1, len(plain) - 2)))


def word_grams(text: str) -> frozenset[str]:
    """Return the set of word 3-grams of a text; a text of fewer words is one gram."""
    words = _words(text)
    starts = range(max(1, len(words) - 2))
    return frozenset(" ".join(words[start : start + _GRAM]) for start in starts)


def similarity(first: str, second: str, shingles: Shingles = character_grams) -> float:
    """Return the Jaccard similarity of two texts' grams, 0-1."""
    a, b = shingles(first), shingles(second)
    return len(a & b) / len(a | b)


def near_pairs(
    texts_a: Sequence[str],
    texts_b: Sequence[str] | None,
    threshold: float,
    shingles: Shingles = character_grams,
) -> list[Pair]:
    """Return all pairs with a similarity of at least ``threshold``, sorted.

    With ``texts_b`` of None the pairs are within ``texts_a``, each once; otherwise ``i`` counts in
    ``texts_a`` and ``j`` in ``texts_b``.

    Raises:
        ValueError: if the threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a similarity threshold of {threshold} is not above 0 and at most 1")
    if not texts_a or (texts_b is not None and not texts_b):
        return []
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))
    rows_a = [[numbers[gram] for gram in shingles(text)] for text in texts_a]
    rows_b = rows_a
    if texts_b is not None:
        rows_b = [[numbers[gram] for gram in shingles(text)] for text in texts_b]
    left, right = (_matrix(rows, len(numbers)) for rows in (rows_a, rows_b))
    pairs = _similar(left, right, threshold)
    return sorted(pair for pair in pairs if texts_b is not None or pair.i < pair.j)


def _matrix(rows: Sequence[Sequence[int]], width: int) -> Any:
    indptr = np.cumsum([0, *(len(row) for row in rows)])
    indices = np.fromiter((number for row in rows for number in row), dtype=np.int64)
    ones = np.ones(len(indices), dtype=np.int32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(rows), width))


def _similar(left: Any, right: Any, threshold: float) -> Iterator[Pair]:
    sizes_left, sizes_right = np.diff(left.indptr), np.diff(right.indptr)
    turned = right.T.tocsr()
    step = max(1, _BLOCK_CELLS // right.shape[0])
    for start in range(0, left.shape[0], step):
        shared = (left[start : start + step] @ turned).tocoo()
        rows = shared.row + start
        unions = sizes_left[rows] + sizes_right[shared.col] - shared.data
        scores = shared.data / unions
        for place in np.flatnonzero(scores >= threshold):
            yield Pair(int(rows[place]), int(shared.col[place]), float(scores[place]))


def groups(count: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the connected groups of 0..count-1 that have two members or more, sorted."""
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first, second in links:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for node in range(count):
        members[root(node)].append(node)
    return [group for group in members.values() if len(group) > 1]


def same_key_groups(keys: Sequence[str]) -> list[list[int]]:
    """Return the groups of positions that have one key, where there are two or more of them."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        members[key].append(place)
    return [group for group in members.values() if len(group) > 1]
