"""Labels that are probably wrong, judged by a model that has not seen them.

A linear text model gives each record, out of fold, a probability for every label. The labels are
then explained as a mixture: with probability 1-e the right one, else any other. The share e and the
sharpness of the probabilities are fitted together; the confidence in an error is the posterior of
the second part. Where the texts do not tell the labels apart, nothing is suspected. (Counting
disagreements instead, as confident learning does, flags half of a set of 40 classes with 30 short
texts each; on BANKING77 with 5 % flipped labels it is right in 3 of 10 cases, this in 8.)

Invariants:
* Each record is judged by a model trained without it.
* The result depends on the records only: folds are dealt by content, nothing is drawn by chance.
* Classes with fewer than five records are not judged; there is nothing to judge them by.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

LIKELY = 0.5
_FOLDS = 5
# Beyond so many records the models learn from a share of each class, drawn by content, and judge
# all: time grows with the number of records, memory does not grow with their features.
MOST_KNOWN = 20_000


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong; ``confidence`` is the probability that it is, 0-1."""

    record_id: str
    given: str
    suggested: str
    confidence: float


def suspected_label_errors(
    record_ids: Sequence[str],
    texts: Sequence[str],
    labels: Sequence[str],
    at_least: float = LIKELY,
) -> list[Suspect]:
    """Return the labels that are wrong with a probability of ``at_least``, the likeliest first."""
    sizes = Counter(labels)
    places = [place for place, label in enumerate(labels) if sizes[label] >= _FOLDS]
    # Content decides the order, so that the order of the rows cannot.
    places.sort(key=lambda place: (_shuffled(texts[place]), labels[place], record_ids[place]))
    classes = sorted({labels[place] for place in places})
    if len(classes) < 2:
        return []
    given = np.array([classes.index(labels[place]) for place in places])
    scores = _out_of_fold([texts[place] for place in places], given, len(classes))
    confidences = _error_probabilities(scores, given)
    suggested = scores.argmax(axis=1)
    suspects = [
        Suspect(
            record_ids[place],
            classes[given[row]],
            classes[suggested[row]],
            round(float(confidences[row]), 4),
        )
        for row, place in enumerate(places)
        if suggested[row] != given[row] and confidences[row] >= at_least
    ]
    return sorted(suspects, key=lambda s: (-s.confidence, s.record_id))


def _shuffled(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _out_of_fold(texts: Sequence[str], given: Any, classes: int) -> Any:
    """Return log probabilities, shape (texts, classes)."""
    folds, ranks = np.empty(len(texts), dtype=np.int64), np.empty(len(texts), dtype=np.int64)
    dealt: dict[int, int] = defaultdict(int)
    for place, label in enumerate(given.tolist()):
        folds[place], ranks[place] = (dealt[label] + label) % _FOLDS, dealt[label]
        dealt[label] += 1
    large = len(texts) > MOST_KNOWN
    most = max(_FOLDS, MOST_KNOWN // classes) if large else len(texts)
    known = np.flatnonzero(ranks < most)
    # Word counts may be taken over all texts: they know no labels.
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+"),  # noqa: S106
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )
    table = features.fit_transform([texts[place] for place in known.tolist()]).tocsr()
    scores = np.zeros((len(texts), classes))
    # One thread: faster on so small a problem, and the same sums on every machine.
    with threadpool_limits(1):
        models = [
            LogisticRegression(C=10.0, max_iter=200, tol=1e-3).fit(table[seen], given[known[seen]])
            for seen in (np.flatnonzero(folds[known] != fold) for fold in range(_FOLDS))
        ]
        for start in range(0, len(texts), MOST_KNOWN):
            part = slice(start, start + MOST_KNOWN)
            block = features.transform(texts[part]).tocsr() if large else table
            for fold, model in enumerate(models):
                held = np.flatnonzero(folds[part] == fold)
                if len(held):
                    scores[start + held] = model.predict_log_proba(block[held])
    return scores


def _error_probabilities(scores: Any, given: Any) -> Any:
    """Return for each row the posterior probability that its given label is wrong."""

    def parts(start: int, sharpness: float, noise: float) -> tuple[Any, Any]:
        rows, labels = scores[start : start + MOST_KNOWN], given[start : start + MOST_KNOWN]
        sharp = log_softmax(np.exp(sharpness) * rows, axis=1)
        right = np.exp(sharp[np.arange(len(labels)), labels])
        share = expit(noise)
        return (1 - share) * right, share * (1 - right) / (scores.shape[1] - 1)

    def loss(settings: Any) -> float:
        right, wrong = parts(0, *settings)
        return float(-np.log(right + wrong + 1e-300).mean())

    fitted = minimize(loss, [0.5, -3.5], method="Nelder-Mead")
    found = []
    for start in range(0, len(given), MOST_KNOWN):
        right, wrong = parts(start, *fitted.x)
        found.append(wrong / (right + wrong + 1e-300))
    return np.concatenate(found)
