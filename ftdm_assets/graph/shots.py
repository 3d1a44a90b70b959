"""Few-shot examples: which records of the training data a prompted baseline is shown.

Invariants:
* The same dataset gives the same shots, whatever the order of its records: what is left open is
  settled by the records' digests.
* A shot is short, as the data goes: the prompt is paid for with every question.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from golden.examples import Example

Record = Mapping[str, Any]
Covered = Callable[[str], frozenset[str]]

_CHARACTERS = 200
_FEW = 0.1
_AT_ONCE = 256


def fixed_shots(records: Sequence[Record], count: int, covered: Covered) -> list[Record]:
    """Return shots that together show as much as they can, the same for every question.

    Args:
        records: the training data.
        count: how many shots.
        covered: what an output shows: its label, or its fields.
    """
    left, shown = short_records(records), set[str]()
    shows = {output: covered(output) for output in {str(record["output"]) for record in left}}
    chosen: list[Record] = []
    while left and len(chosen) < count:
        best = max(left, key=lambda record: len(shows[str(record["output"])] - shown))
        if shown and not shows[str(best["output"])] - shown:
            shown = set()  # All is shown: once more from the start.
            continue
        chosen.append(best)
        shown |= shows[str(best["output"])]
        left = [record for record in left if record is not best]
    return chosen


def nearest_shots(
    records: Sequence[Record], examples: Sequence[Example], count: int
) -> dict[str, list[Record]]:
    """Return for each example, by its id, the records whose texts are most like its own.

    Likeness is the cosine of TF-IDF over character n-grams; the likest stands last, next to the
    question.
    """
    known = short_records(records)
    if not known or not count:
        return {example.example_id: [] for example in examples}
    table = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    texts = table.fit_transform([str(record["input"]) for record in known]).T.tocsr()
    found: dict[str, list[Record]] = {}
    for part in _parts(examples):
        likeness = (table.transform([example.input for example in part]) @ texts).toarray()
        # Rounded, so that equals stay equals and the digest decides.
        order = np.argsort(-likeness.round(9), axis=1, kind="stable")[:, :count]
        for example, row in zip(part, order, strict=True):
            found[example.example_id] = [known[at] for at in reversed(row)]
    return found


def short_records(records: Sequence[Record]) -> list[Record]:
    """Return the records short enough to be shown, by digest.

    Those of at most 200 characters; where these are less than a tenth, the shortest tenth.
    """
    if not records:
        return []
    lengths = [len(str(record["input"])) for record in records]
    tenth = sorted(lengths)[max(int(len(lengths) * _FEW) - 1, 0)]
    limit = max(tenth, _CHARACTERS)
    kept = [record for record, length in zip(records, lengths, strict=True) if length <= limit]
    return sorted(kept, key=lambda record: str(record["digest"]))


def _parts(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), _AT_ONCE):
        yield examples[start : start + _AT_ONCE]
