"""All pairs of sets with a Jaccard similarity at or above a threshold, without comparing all pairs.

Two sets of n and m grams at similarity t differ in at most d = (1 - t) / (1 + t) * (n + m) grams.
Deal all grams into more than d / 2 parts: in one part at least, the two differ in one gram or none.
So whatever agrees in no part, not even after one gram of it is taken out, cannot be a pair; what
agrees is compared. (Deng et al., An efficient partition based method for exact set similarity
joins, 2015. MinHash guesses which to compare, and misses some.)

Invariants:
* Every pair at or above the threshold is found, and none below it: hashes choose what is compared,
  and equal content has equal hashes, so that a collision costs time and never a pair.
* The result does not depend on the order of the sets or on the number of workers.
* Memory beside the result is bounded by the sizes of the blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from ftdm_assets.records.gram_sets import GramSets, ascending

_BLOCK_CELLS = 4_000_000
_CHUNK = 1 << 20
_VERIFY = 100_000
_WAITING = 8_000_000
_SKETCH_WORDS = 4
# Up to so many comparisons, comparing all is as fast as choosing.
_PRODUCT_CELLS = 4_000_000
_LOW_THRESHOLD, _LOW_PRODUCT_CELLS = 0.7, 4_000_000_000
# Bounds are taken a little too wide, since thresholds are no exact fractions.
_SLACK = 1e-6

Found = tuple[Any, Any, Any]


def join(left: GramSets, right: GramSets | None, threshold: float, width: int) -> Iterator[Found]:
    """Yield arrays (i, j, similarity) of all pairs, in no particular order; one may come twice.

    ``right`` of None means within ``left``, with i < j; ``width`` is the number of grams.
    """
    other = left if right is None else right
    cells = len(left) * len(other)
    most = _LOW_PRODUCT_CELLS if threshold < _LOW_THRESHOLD else _PRODUCT_CELLS
    if cells <= most:
        yield from compare_all(left, other, threshold, width, within=right is None)
    else:
        yield from _Join(left, right, threshold, width).pairs()


def _matrix(sets: GramSets, width: int) -> Any:
    ones = np.ones(len(sets.grams), dtype=np.int32)
    return sparse.csr_matrix((ones, sets.grams, sets.starts), shape=(len(sets), width))


def compare_all(
    left: GramSets, right: GramSets, threshold: float, width: int, *, within: bool
) -> Iterator[Found]:
    """Do what ``join`` does by comparing all with all, in blocks: quadratic time."""
    matrix, turned = _matrix(left, width), _matrix(right, width).T.tocsr()
    step = max(1, _BLOCK_CELLS // len(right))
    for start in range(0, len(left), step):
        shared = (matrix[start : start + step] @ turned).tocoo()
        i, j = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        scores = shared.data / (left.sizes[i] + right.sizes[j] - shared.data)
        near = scores >= threshold
        if within:
            near &= i < j
        yield i[near], j[near], scores[near]


class _Table:
    """Sets in the order of their sizes, with the sketches that tell most unlike ones apart."""

    def __init__(self, sets: GramSets, ranks: Any) -> None:
        self._width = len(ranks)
        self.order = np.argsort(sets.sizes, kind="stable")
        self.sizes = sets.sizes[self.order]
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.grams = np.empty(len(sets.grams), dtype=np.int32)
        self.sketches = np.zeros((_SKETCH_WORDS, len(self.order)), dtype=np.uint64)
        bits = np.uint64(1) << (ranks // _SKETCH_WORDS % 64).astype(np.uint64)
        for first in range(0, len(self.order), _VERIFY):
            rows = slice(first, first + _VERIFY)
            low, high = self.starts[first], self.starts[min(first + _VERIFY, len(self.order))]
            begins = sets.starts[self.order[rows]] - self.starts[:-1][rows]
            places = np.arange(low, high) + np.repeat(begins, self.sizes[rows])
            grams = self.grams[low:high] = sets.grams[places]
            for word in range(_SKETCH_WORDS):
                marks = np.where(ranks % _SKETCH_WORDS == word, bits, np.uint64(0))[grams]
                begin = self.starts[:-1][rows] - low
                self.sketches[word, rows] = np.bitwise_xor.reduceat(marks, begin)

    @cached_property
    def matrix(self) -> Any:
        ones = np.ones(len(self.grams), dtype=np.int8)
        shape = (len(self.order), self._width)
        return sparse.csr_matrix((ones, self.grams, self.starts), shape=shape)


@dataclass(frozen=True)
class _Part:
    """One part of the sets ``first``..: each set's hash there, and its hashes less one gram.

    The first ``low`` sets are of the lower class of sizes.
    """

    first: int
    low: int
    whole: Any
    less: Any
    owners: Any
    low_less: int


class _Slice:
    """The sets of one class of sizes and of the next one, for as long as they are joined."""

    def __init__(self, table: _Table, bounds: tuple[int, int, int], parts: int, ranks: Any) -> None:
        start, middle, end = np.searchsorted(table.sizes, bounds)
        self.first, self.low, self.count = int(start), int(middle - start), int(end - start)
        self.grams = table.grams[table.starts[start] : table.starts[end]]
        self.owners = np.repeat(np.arange(self.count, dtype=np.int32), table.sizes[start:end])
        # There and back again by frequency: every part gets its share of the rare grams.
        turn = ranks % (2 * parts)
        self.dealt = np.minimum(turn, 2 * parts - 1 - turn).astype(np.int16)[self.grams]

    def part(self, number: int, hashes: Any) -> _Part:
        places = np.flatnonzero(self.dealt == number)
        owners, values = self.owners[places], hashes[self.grams[places]]
        whole = np.zeros(self.count, dtype=np.uint64)
        if len(places):
            begins = np.flatnonzero(np.diff(owners, prepend=-1))
            whole[owners[begins]] = np.add.reduceat(values, begins)
        low_less = int(np.searchsorted(owners, self.low))
        return _Part(self.first, self.low, whole, whole[owners] - values, owners, low_less)


class _Join:
    """The join by parts."""

    def __init__(
        self, left: GramSets, right: GramSets | None, threshold: float, width: int
    ) -> None:
        self.threshold = threshold
        self.differing = (1 - threshold) / (1 + threshold)
        counts = np.bincount(left.grams, minlength=width)
        if right is not None:
            counts = counts + np.bincount(right.grams, minlength=width)
        self.ranks = np.empty(width, dtype=np.int64)
        self.ranks[np.argsort(-counts, kind="stable")] = np.arange(width)
        self.hashes = np.random.default_rng(0).integers(2**64, size=width, dtype=np.uint64)
        self.left = _Table(left, self.ranks)
        self.within = right is None
        self.right = self.left if right is None else _Table(right, self.ranks)

    def pairs(self) -> Iterator[Found]:
        for bounds in self._classes():
            waiting: list[Any] = []
            for keys in self._candidates(bounds):
                waiting.append(keys)
                if sum(map(len, waiting)) > _WAITING:
                    yield from self._verified(waiting)
                    waiting = []
            yield from self._verified(waiting)

    def _classes(self) -> Iterator[tuple[int, int, int]]:
        """Yield bounds (a, b, c): a set of a..b-1 grams has its like among those of a..c-1."""
        sizes = np.union1d(self.left.sizes, self.right.sizes)

        def largest(size: int) -> int:
            return min(int(size / self.threshold + _SLACK), int(sizes[-1]))

        low = 1
        while low <= sizes[-1]:
            # Straight to the next size that there is.
            low = int(sizes[np.searchsorted(sizes, low)])
            middle = largest(low) + 1
            yield low, middle, largest(middle - 1) + 1
            low = middle

    def _bound(self, sizes: Any) -> Any:
        """Return in how many grams two near sets of so many grams together can differ."""
        return np.floor(sizes * self.differing + _SLACK)

    def _candidates(self, bounds: tuple[int, int, int]) -> Iterator[Any]:
        _, middle, end = bounds
        parts = int(self._bound(middle + end - 2)) // 2 + 1
        left = _Slice(self.left, bounds, parts, self.ranks)
        right = left if self.within else _Slice(self.right, bounds, parts, self.ranks)
        if not (left.count and right.count):
            return
        for number in range(parts):
            a = left.part(number, self.hashes)
            b = a if self.within else right.part(number, self.hashes)
            for i, j in _agreeing(a, b, within=self.within):
                yield self._likely(i, j)

    def _likely(self, i: Any, j: Any) -> Any:
        """Return the keys of those pairs that their sizes and sketches do not rule out."""
        if self.within:
            i, j = np.minimum(i, j), np.maximum(i, j)
            apart = i != j
            i, j = i[apart], j[apart]
        sizes, others = self.left.sizes[i], self.right.sizes[j]
        room = self._bound(sizes + others).astype(np.int16)
        differing = np.zeros(len(i), dtype=np.int16)
        fits = np.abs(sizes - others) <= room
        for word in range(_SKETCH_WORDS):
            i, j, room, differing = i[fits], j[fits], room[fits], differing[fits]
            unlike = self.left.sketches[word][i] ^ self.right.sketches[word][j]
            differing = differing + np.bitwise_count(unlike)
            fits = differing <= room
        return i[fits] << 32 | j[fits]

    def _verified(self, waiting: list[Any]) -> Iterator[Found]:
        keys = ascending(np.concatenate([np.zeros(0, dtype=np.int64), *waiting]))
        for start in range(0, len(keys), _VERIFY):
            chunk = keys[start : start + _VERIFY]
            i, j = chunk >> 32, chunk & 0xFFFFFFFF
            both = self.left.matrix[i].multiply(self.right.matrix[j])
            shared = np.diff(both.tocsr().indptr)
            scores = shared / (self.left.sizes[i] + self.right.sizes[j] - shared)
            near = scores >= self.threshold
            first, second = self.left.order[i[near]], self.right.order[j[near]]
            if self.within:
                first, second = np.minimum(first, second), np.maximum(first, second)
            yield first, second, scores[near]


def _agreeing(a: _Part, b: _Part, *, within: bool) -> Iterator[tuple[Any, Any]]:
    """Yield pairs of sets that differ in one gram of the part or none, not both of them high."""
    yield from _probe(a, b, whole=True)
    if not within:
        for j, i in _probe(b, a, whole=False):
            yield i, j


def _probe(part: _Part, index: _Part, *, whole: bool) -> Iterator[tuple[Any, Any]]:
    places = np.arange(len(part.whole) if whole else 0, dtype=np.int32)
    for high, among in ((False, index.whole), (True, index.whole[: index.low])):
        some = slice(part.low, None) if high else slice(part.low)
        less = slice(part.low_less, None) if high else slice(part.low_less)
        owners = np.concatenate([places[some], part.owners[less]])
        probes = np.concatenate([part.whole[places[some]], part.less[less]])
        for found, met in _equal(probes, among):
            yield owners[found].astype(np.int64) + part.first, met.astype(np.int64) + index.first


def _equal(probes: Any, among: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the places of all equal hashes in the two arrays, in chunks."""
    order = np.argsort(among)
    ordered = among[order]
    # Most probes meet nothing: a table of the first bits says so without a search.
    shift = np.uint64(64 - max(10, len(among).bit_length() + 3))
    known = np.zeros(1 << (64 - int(shift)), dtype=bool)
    known[ordered >> shift] = True
    places = np.flatnonzero(known[probes >> shift])
    begins = np.searchsorted(ordered, probes[places])
    counts = np.searchsorted(ordered, probes[places], side="right") - begins
    places, begins, counts = places[counts > 0], begins[counts > 0], counts[counts > 0]
    ends = np.cumsum(counts)
    start = 0
    while start < len(places):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        some = slice(start, stop)
        repeated = np.repeat(places[some], counts[some])
        offsets = np.arange(len(repeated)) - np.repeat(
            ends[some] - counts[some] - done, counts[some]
        )
        yield repeated, order[np.repeat(begins[some], counts[some]) + offsets]
        start = stop
