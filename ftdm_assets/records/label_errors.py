"""Labels that a model, which has not seen them, would not have given (confident learning).

Invariants:
* Each record is judged by a model trained without it (out of fold).
* The result depends on the records only: folds are dealt by content, solvers are deterministic.
* Classes with fewer than five records are not judged; there is nothing to judge them by.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

_FOLDS = 5


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong.

    ``confidence`` (0.5-1) is the model's probability of the suggested label, where only the given
    and the suggested one are possible.
    """

    record_id: str
    given: str
    suggested: str
    confidence: float


def text_classifier() -> Any:
    """Return an untrained linear classifier on words and pieces of words (fit, predict_proba)."""
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )
    return make_pipeline(features, LogisticRegression(C=10.0, max_iter=200, tol=1e-3))


def suspected_label_errors(
    record_ids: Sequence[str], texts: Sequence[str], labels: Sequence[str]
) -> list[Suspect]:
    """Return suspects, the most confident first; ties by record id."""
    sizes = Counter(labels)
    places = [place for place, label in enumerate(labels) if sizes[label] >= _FOLDS]
    # Content decides the order, so that the order of the rows cannot.
    places.sort(key=lambda place: (_shuffled(texts[place]), labels[place], record_ids[place]))
    classes = sorted({labels[place] for place in places})
    if len(classes) < 2:
        return []
    given = np.array([classes.index(labels[place]) for place in places])
    shares = _out_of_fold([texts[place] for place in places], given, len(classes))
    flagged = find_label_issues(given, shares, n_jobs=1)
    suspects = [
        _suspect(record_ids[places[row]], classes, int(given[row]), shares[row])
        for row in np.flatnonzero(flagged)
    ]
    return sorted(suspects, key=lambda s: (-s.confidence, s.record_id))


def _shuffled(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _out_of_fold(texts: Sequence[str], given: Any, classes: int) -> Any:
    folds = np.empty(len(texts), dtype=np.int64)
    dealt: dict[int, int] = defaultdict(int)
    for place, label in enumerate(given):
        folds[place] = (dealt[label] + label) % _FOLDS
        dealt[label] += 1
    shares = np.zeros((len(texts), classes))
    for fold in range(_FOLDS):
        known, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(held):
            model = text_classifier().fit([texts[place] for place in known.tolist()], given[known])
            shares[held] = model.predict_proba([texts[place] for place in held.tolist()])
    return shares


def _suspect(record_id: str, classes: Sequence[str], given: int, shares: Any) -> Suspect:
    suggested = int(np.argmax(shares))
    confidence = shares[suggested] / (shares[suggested] + shares[given])
    return Suspect(record_id, classes[given], classes[suggested], float(confidence))
