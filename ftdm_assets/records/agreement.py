"""How far the annotators agree, on the inputs that two or more of them have labelled.

Invariants:
* Inputs count as the same by the key of ``normalise.duplicate_key``.
* An annotator has one say an input: the latest one.
* Alpha is None, not 1, where nothing can be measured: no overlap, or only one label in use there.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import krippendorff
import numpy as np
import pandas as pd

from ftdm_assets.records.normalise import duplicate_key


@dataclass(frozen=True)
class PairAgreement:
    """Two annotators: on how many inputs they met, and the share on which they agreed, 0-1."""

    first: str
    second: str
    items: int
    agreement: float


@dataclass(frozen=True)
class AgreementResult:
    """Krippendorff's alpha (nominal) over the inputs with two or more annotators.

    Attributes:
        alpha: -1 to 1; None where it cannot be measured.
        items: inputs labelled by two annotators or more.
        annotators: who labelled them, sorted.
        pairs: agreement of each two annotators who met, sorted by their names.
    """

    alpha: float | None
    items: int
    annotators: tuple[str, ...]
    pairs: tuple[PairAgreement, ...]


def agreement(frame: pd.DataFrame) -> AgreementResult:
    """Measure agreement on a raw frame."""
    says = {key: votes for key, votes in _says(frame).items() if len(votes) > 1}
    annotators = sorted({name for votes in says.values() for name in votes})
    return AgreementResult(_alpha(says), len(says), tuple(annotators), _pairs(says))


def _says(frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    says: dict[str, dict[str, str]] = defaultdict(dict)
    ordered = frame.sort_values(["annotated_at", "record_id"], kind="stable")
    columns = (ordered["input"], ordered["output"], ordered["annotator"])
    for text, output, annotator in zip(*columns, strict=True):
        if str(text).strip() and str(output).strip():
            says[duplicate_key(str(text))][str(annotator)] = str(output).strip()
    return says


def _alpha(says: Mapping[str, Mapping[str, str]]) -> float | None:
    labels = sorted({label for votes in says.values() for label in votes.values()})
    if len(labels) < 2:
        return None
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(says), len(labels)), dtype=np.int64)
    for row, votes in enumerate(says.values()):
        for label in votes.values():
            counts[row, places[label]] += 1
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def _pairs(says: Mapping[str, Mapping[str, str]]) -> tuple[PairAgreement, ...]:
    met: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for votes in says.values():
        for first, second in combinations(sorted(votes), 2):
            met[first, second].append(votes[first] == votes[second])
    return tuple(
        PairAgreement(first, second, len(same), sum(same) / len(same))
        for (first, second), same in sorted(met.items())
    )
