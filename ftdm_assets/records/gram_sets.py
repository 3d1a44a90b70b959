"""Texts as sets of numbered grams, in two flat arrays: what the comparison of texts works on.

Invariants:
* Two grams have one number if and only if they are equal: numbers are given out, not hashed.
* Every text has at least one gram; the numbers of a text are ascending and distinct.
* Texts are taken in blocks, so that memory beside the result is bounded.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

GRAM = 3
Shingles = Callable[[str], frozenset[str]]

_NOT_WORDS = re.compile(r"[^\w\s]")
_BLOCK = 20_000
# A code point plus one fits in 21 bits, so three of them fit in a signed 64-bit number.
_BITS = 21


@dataclass(frozen=True)
class GramSets:
    """The sets of n texts: text k has the grams ``grams[starts[k] : starts[k + 1]]``.

    Attributes:
        starts: shape (n + 1,), int64.
        grams: shape (total,), int32.
    """

    starts: Any
    grams: Any

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.starts) - 1

    @property
    def sizes(self) -> Any:
        """Return the number of grams of each text, shape (n,)."""
        return np.diff(self.starts)


def ascending(keys: Any) -> Any:
    """Return the different ones of an array of int64, sorted.

    ``np.unique`` hashes them first, which took twenty times as long on a million grams.
    """
    ordered = np.sort(keys)
    return ordered[np.diff(ordered, prepend=-1) != 0]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation if that leaves any."""
    return _NOT_WORDS.sub("", text.lower()).split() or text.split()


def character_grams(text: str) -> frozenset[str]:
    """Return the set of character 3-grams of a text; a shorter text is one gram."""
    plain = " ".join(words(text))
    return frozenset(plain[start : start + GRAM] for start in range(max(1, len(plain) - 2)))


class Numbering:
    """Gives grams their numbers, the same ones to all texts that it is asked for."""

    def __init__(self, shingles: Shingles) -> None:
        self._shingles = shingles
        self._numbers: dict[Any, int] = {}

    @property
    def width(self) -> int:
        """Return how many different grams were met."""
        return len(self._numbers)

    def sets(self, texts: Sequence[str]) -> GramSets:
        """Return the gram sets of the texts."""
        # The character grams are cut as code points, 20 times as fast as one by one.
        cut = self._characters if self._shingles is character_grams else self._one_by_one
        sizes, grams = [np.zeros(1, dtype=np.int64)], [np.zeros(0, dtype=np.int32)]
        for start in range(0, len(texts), _BLOCK):
            block = texts[start : start + _BLOCK]
            rows, numbers = cut(block)
            # One number carries row and gram, so that one sort orders and finds the repeated.
            keys = ascending(rows << 32 | numbers)
            sizes.append(np.bincount(keys >> 32, minlength=len(block)))
            grams.append((keys & 0xFFFFFFFF).astype(np.int32))
        return GramSets(np.cumsum(np.concatenate(sizes)), np.concatenate(grams))

    def _number(self, grams: Iterable[Any]) -> Iterator[int]:
        for gram in grams:
            yield self._numbers.setdefault(gram, len(self._numbers))

    def _one_by_one(self, texts: Sequence[str]) -> tuple[Any, Any]:
        found = [self._shingles(text) for text in texts]
        counts = [len(grams) for grams in found]
        numbers = self._number(gram for grams in found for gram in grams)
        rows = np.repeat(np.arange(len(texts), dtype=np.int64), counts)
        return rows, np.fromiter(numbers, dtype=np.int64, count=sum(counts))

    def _characters(self, texts: Sequence[str]) -> tuple[Any, Any]:
        plain = [" ".join(words(text)) for text in texts]
        lengths = np.fromiter(map(len, plain), dtype=np.int64, count=len(plain))
        # Room after each text, so that no gram of a short one reaches into the next.
        gap = "\0" * GRAM
        joined = (gap.join(plain) + gap).encode("utf-32-le", "surrogatepass")
        points = np.frombuffer(joined, dtype=np.uint32).astype(np.int64) + 1
        starts = np.cumsum(lengths + GRAM) - (lengths + GRAM)
        for place in range(GRAM):
            points[starts + lengths + place] = 0
        counts = np.maximum(1, lengths - GRAM + 1)
        rows = np.repeat(np.arange(len(plain), dtype=np.int64), counts)
        firsts = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts - starts, counts)
        codes = points[firsts]
        for place in range(1, GRAM):
            codes = codes << _BITS | points[firsts + place]
        local, distinct = pd.factorize(codes)
        numbers = np.fromiter(self._number(distinct.tolist()), dtype=np.int64, count=len(distinct))
        return rows, numbers[local]
