"""How far the annotators agree, on the inputs that two or more of them have labelled.

Invariants:
* Inputs count as the same by the key of ``normalise.duplicate_key``.
* An annotator has one say an input: the latest one.
* Alpha and kappa are None, never NaN and never 1, where nothing can be measured: no overlap, or
  only one label in use there.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import krippendorff
import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from ftdm_assets.records.normalise import duplicate_key

Says = Mapping[str, Mapping[str, str]]
Table = Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class PairAgreement:
    """Two annotators: on how many inputs they met, the share on which they agreed, Cohen's kappa.

    Agreement is within 0-1, kappa within -1 to 1.
    """

    first: str
    second: str
    items: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True)
class AnnotatorAgreement:
    """An annotator against each of the others whom they met, all those comparisons in one table.

    ``items`` are the inputs that they share with anyone.
    """

    annotator: str
    items: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True)
class LabelAgreement:
    """A label against all others, all pairs of annotators in one table (one-vs-rest kappa).

    ``items`` are the shared inputs to which at least one annotator gave the label.
    """

    label: str
    items: int
    kappa: float | None


@dataclass(frozen=True)
class AgreementResult:
    """Krippendorff's alpha (nominal) over the inputs with two or more annotators.

    Attributes:
        alpha: -1 to 1; None where it cannot be measured.
        items: inputs labelled by two annotators or more.
        annotators: who labelled them, sorted.
        pairs: agreement of each two annotators who met, sorted by their names.
        by_annotator: agreement of each annotator with the others, sorted by name.
        by_label: agreement on each label, sorted by label.
    """

    alpha: float | None
    items: int
    annotators: tuple[str, ...]
    pairs: tuple[PairAgreement, ...]
    by_annotator: tuple[AnnotatorAgreement, ...]
    by_label: tuple[LabelAgreement, ...]


def agreement(frame: pd.DataFrame) -> AgreementResult:
    """Measure agreement on a raw frame."""
    says = {key: votes for key, votes in _says(frame).items() if len(votes) > 1}
    annotators = sorted({name for votes in says.values() for name in votes})
    tables = _tables(says)
    return AgreementResult(
        _alpha(says),
        len(says),
        tuple(annotators),
        tuple(
            PairAgreement(*pair, sum(table.values()), _share(table), kappa(table))
            for pair, table in sorted(tables.items())
        ),
        tuple(_annotator(name, says, tables) for name in annotators),
        tuple(_labels(says, tables)),
    )


def kappa(table: Table) -> float | None:
    """Return Cohen's kappa of a table of (first's label, second's label) to inputs.

    None where chance alone would agree always: no input, or one label only.
    """
    if len({label for cell in table for label in cell}) < 2:
        return None
    cells = sorted(table)
    firsts, seconds = zip(*cells, strict=True)
    counts = [table[cell] for cell in cells]
    return float(cohen_kappa_score(firsts, seconds, sample_weight=counts))


def _says(frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    says: dict[str, dict[str, str]] = defaultdict(dict)
    ordered = frame.sort_values(["annotated_at", "record_id"], kind="stable")
    columns = (ordered["input"], ordered["output"], ordered["annotator"])
    for text, output, annotator in zip(*columns, strict=True):
        if str(text).strip() and str(output).strip():
            says[duplicate_key(str(text))][str(annotator)] = str(output).strip()
    return says


def _alpha(says: Says) -> float | None:
    labels = sorted({label for votes in says.values() for label in votes.values()})
    if len(labels) < 2:
        return None
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(says), len(labels)), dtype=np.int64)
    for row, votes in enumerate(says.values()):
        for label in votes.values():
            counts[row, places[label]] += 1
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def _tables(says: Says) -> dict[tuple[str, str], Counter[tuple[str, str]]]:
    tables: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for votes in says.values():
        for first, second in combinations(sorted(votes), 2):
            tables[first, second][votes[first], votes[second]] += 1
    return tables


def _share(table: Table) -> float:
    return sum(count for (a, b), count in table.items() if a == b) / sum(table.values())


def _annotator(
    name: str, says: Says, tables: Mapping[tuple[str, str], Table]
) -> AnnotatorAgreement:
    """Compare one annotator with the others: their labels first, the others' second."""
    mine = [table for (first, _), table in tables.items() if first == name]
    theirs = [table for (_, second), table in tables.items() if second == name]
    whole = _sum([*mine, *(_turned(table) for table in theirs)])
    items = sum(name in votes for votes in says.values())
    return AnnotatorAgreement(name, items, _share(whole), kappa(whole))


def _labels(says: Says, tables: Mapping[tuple[str, str], Table]) -> Iterable[LabelAgreement]:
    used = Counter(label for votes in says.values() for label in set(votes.values()))
    whole = _sum(tables.values())
    # No one is first by right: each comparison counts in both directions.
    both = _sum([whole, _turned(whole)])
    for label in sorted(used):
        binary: Counter[tuple[str, str]] = Counter()
        for (first, second), count in both.items():
            binary[str(first == label), str(second == label)] += count
        yield LabelAgreement(label, used[label], kappa(binary))


def _turned(table: Table) -> Table:
    return {(second, first): count for (first, second), count in table.items()}


def _sum(tables: Iterable[Table]) -> Counter[tuple[str, str]]:
    total: Counter[tuple[str, str]] = Counter()
    for table in tables:
        for cell, count in table.items():
            total[cell] += count
    return total
