"""Which texts are the same, or nearly so: exact recall, no hashing tricks, no chance.

Two texts are near when the Jaccard similarity of their sets of character 3-grams (lower case,
without punctuation, white space squeezed) reaches the threshold. One changed word in ten hides a
copy from grams of words, one long word at the end hides it from grams of characters: for
contamination, where a miss is a leak, either is enough.

Invariants:
* Every pair at or above the threshold is found, and none below it.
* The result depends on the texts only; pairs are sorted, memory is bounded by the block size.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ftdm_assets.records import similarity_join
from ftdm_assets.records.gram_sets import GRAM, Numbering, Shingles, character_grams, words

__all__ = [
    "Pair",
    "Shingles",
    "character_grams",
    "contaminated",
    "groups",
    "near_groups",
    "near_pairs",
    "nearest",
    "same_key_groups",
    "similarity",
    "word_grams",
]

_HELD_LINKS = 4_000_000


@dataclass(frozen=True, order=True)
class Pair:
    """Two near texts by their positions; within one list ``i`` < ``j``."""

    i: int
    j: int
    similarity: float


def word_grams(text: str) -> frozenset[str]:
    """Return the set of word 3-grams of a text; a text of fewer words is one gram."""
    found = words(text)
    starts = range(max(1, len(found) - 2))
    return frozenset(" ".join(found[start : start + GRAM]) for start in starts)


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
    found = [np.stack([i, j, s]) for i, j, s in _found(texts_a, texts_b, threshold, shingles)]
    if not found:
        return []
    table = np.concatenate(found, axis=1)
    table = table[:, np.lexsort((table[1], table[0]))]
    # The join may tell of a pair twice.
    new = np.any(np.diff(table[:2], axis=1, prepend=-1) != 0, axis=0)
    return [Pair(int(i), int(j), float(score)) for i, j, score in table[:, new].T.tolist()]


def near_groups(
    texts: Sequence[str], threshold: float, shingles: Shingles = character_grams
) -> list[list[int]]:
    """Return the groups of texts that near pairs connect, sorted; ``near_pairs`` without the pairs.

    A text that occurs in a thousand variants has half a million pairs: they are not kept.
    """
    links = [np.zeros((2, 0), dtype=np.int64)]
    for i, j, _ in _found(texts, None, threshold, shingles):
        links.append(np.stack([i, j]))
        if sum(link.shape[1] for link in links) > _HELD_LINKS:
            links = [_forest(len(texts), np.concatenate(links, axis=1))]
    forest = _forest(len(texts), np.concatenate(links, axis=1))
    return groups(len(texts), zip(*forest.tolist(), strict=True))


def _forest(count: int, links: Any) -> Any:
    """Return links that connect the same members, at most one a member."""
    graph = sparse.coo_matrix((np.ones(links.shape[1]), (links[0], links[1])), (count, count))
    number, group = sparse.csgraph.connected_components(graph, directed=False)
    firsts = np.empty(number, dtype=np.int64)
    firsts[group[::-1]] = np.arange(count)[::-1]
    linked = np.flatnonzero(firsts[group] != np.arange(count))
    return np.stack([firsts[group[linked]], linked])


def nearest(
    texts_a: Sequence[str],
    texts_b: Sequence[str],
    threshold: float,
    shingles: Shingles = character_grams,
) -> list[Pair]:
    """Return each of ``texts_a`` with its nearest of ``texts_b``, if any; of equals the first."""
    best: dict[int, Pair] = {}
    for found in _found(texts_a, texts_b, threshold, shingles):
        for i, j, score in zip(*(part.tolist() for part in found), strict=True):
            now = best.get(i)
            if now is None or (-score, j) < (-now.similarity, now.j):
                best[i] = Pair(i, j, score)
    return [best[i] for i in sorted(best)]


def contaminated(texts: Sequence[str], golden: Sequence[str], threshold: float) -> list[Pair]:
    """Return the nearest of ``golden`` to each text that is near one by characters or by words."""
    best = {pair.i: pair for pair in nearest(texts, golden, threshold)}
    known = frozenset[str]().union(*map(word_grams, golden))
    # Most texts share no three words in a row with any golden example.
    meeting = [i for i, text in enumerate(texts) if not known.isdisjoint(word_grams(text))]
    for pair in nearest([texts[i] for i in meeting], golden, threshold, word_grams):
        i = meeting[pair.i]
        if i not in best or pair.similarity > best[i].similarity:
            best[i] = Pair(i, pair.j, pair.similarity)
    return [best[i] for i in sorted(best)]


def _found(
    texts_a: Sequence[str],
    texts_b: Sequence[str] | None,
    threshold: float,
    shingles: Shingles,
) -> Iterable[similarity_join.Found]:
    if not 0 < threshold <= 1:
        raise ValueError(f"a similarity threshold of {threshold} is not above 0 and at most 1")
    if not texts_a or (texts_b is not None and not texts_b):
        return []
    numbering = Numbering(shingles)
    left = numbering.sets(texts_a)
    right = None if texts_b is None else numbering.sets(texts_b)
    return similarity_join.join(left, right, threshold, numbering.width)


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
