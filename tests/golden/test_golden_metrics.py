"""Scores of a classification against an independent implementation and by their invariants."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support

from golden.examples import Example
from golden.metrics import score_classification

LABELS = ("a", "b", "c")


def examples_of(expected: list[str]) -> list[Example]:
    return [Example(f"e{n}", f"text {n}", label, "ana") for n, label in enumerate(expected)]


def test_a_case_counted_by_hand() -> None:
    examples = examples_of(["a", "a", "b", "c"])
    predictions = {"e0": "a", "e1": "b", "e2": " b\n", "e3": "nonsense"}
    scores = score_classification(examples, predictions, LABELS)
    assert (scores.accuracy, scores.correct, scores.total, scores.invalid) == (0.5, 2, 4, 1)
    assert scores.confusion == ((1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1))
    assert scores.per_class["a"].recall == 0.5
    assert scores.per_class["b"].precision == 0.5
    assert scores.per_class["c"].f1 == 0
    assert scores.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores.correctness() == {"e0": True, "e1": False, "e2": True, "e3": False}


def test_no_answer_is_wrong_and_invalid() -> None:
    scores = score_classification(examples_of(["a"]), {"e0": None}, LABELS)
    assert (scores.correct, scores.invalid) == (0, 1)
    assert scores.per_example[0].predicted is None


def test_a_missing_prediction_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 examples have no prediction, the first is e0"):
        score_classification(examples_of(["a"]), {}, LABELS)


def test_an_expected_answer_that_is_no_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="e0 expects 'z', which is no label"):
        score_classification(examples_of(["z"]), {"e0": "a"}, LABELS)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        score_classification([], {}, LABELS)


answers = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "other", "", "A"])), min_size=1
)


@given(answers)
def test_it_agrees_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    expected = [pair[0] for pair in pairs]
    predicted = [pair[1] for pair in pairs]
    predictions: dict[str, str | None] = {f"e{n}": answer for n, answer in enumerate(predicted)}
    scores = score_classification(examples_of(expected), predictions, LABELS)
    present = sorted(set(expected))
    assert scores.macro_f1 == pytest.approx(
        f1_score(expected, predicted, labels=present, average="macro", zero_division=0)
    )
    reference = precision_recall_fscore_support(
        expected, predicted, labels=list(LABELS), zero_division=0
    )
    for place, label in enumerate(LABELS):
        entry = scores.per_class[label]
        ours = (entry.precision, entry.recall, entry.f1, entry.support)
        assert ours == pytest.approx(tuple(column[place] for column in reference))


@given(answers)
def test_every_example_is_counted_once(pairs: list[tuple[str, str]]) -> None:
    predictions: dict[str, str | None] = {f"e{n}": pair[1] for n, pair in enumerate(pairs)}
    scores = score_classification(examples_of([pair[0] for pair in pairs]), predictions, LABELS)
    assert sum(map(sum, scores.confusion)) == scores.total == len(pairs)
    assert sum(row[-1] for row in scores.confusion) == scores.invalid
    assert sum(scores.confusion[n][n] for n in range(len(LABELS))) == scores.correct
    assert json.loads(json.dumps(scores.as_dict()))["total"] == len(pairs)
