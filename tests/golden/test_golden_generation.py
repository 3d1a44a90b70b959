"""Generated texts: ROUGE-L against published values, phrases, lengths, a judge that is asked."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.client import AskSettings, EndpointError
from golden.examples import Example
from golden.generation import Generation
from golden.judge import endpoint_judge
from golden.rouge import longest_common, rouge_l
from tests.golden.endpoint import serve

# Values of google-research's rouge-score 0.1.2: RougeScorer(["rougeL"]).score(a, b).fmeasure.
PUBLISHED = [
    ("the cat sat on the mat", "the cat lay on the mat", 0.8333333333333334),
    (
        "Your parcel left our warehouse on Monday, and will arrive within three days.",
        "The parcel left on Monday and arrives in 3 days.",
        0.5217391304347826,
    ),
    ("police killed the gunman", "the gunman police killed", 0.5),
    (
        "Please reset the thermostat: hold A+B for 10 seconds.",
        "Hold A+B for 10 seconds to reset.",
        0.6666666666666665,
    ),
    ("one two three", "four five", 0.0),
    ("well-known e-mail_address", "well known e mail address", 1.0),
    ("a b c d e f g h", "h g f e d c b a", 0.125),
    ("", "x", 0.0),
]
TASK = Generation(minimum_rouge_l=0.3, maximum_words=8)


@pytest.mark.parametrize(("expected", "predicted", "value"), PUBLISHED)
def test_rouge_l_is_that_of_the_usual_library(expected: str, predicted: str, value: float) -> None:
    assert rouge_l(expected, predicted) == pytest.approx(value)


def test_words_of_other_scripts_count() -> None:
    assert rouge_l("Größe geändert", "größe GEÄNDERT!") == 1


def _common_by_table(one: Sequence[str], other: Sequence[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        above = row
        row = [0]
        for at, second in enumerate(other):
            row.append(above[at] + 1 if word == second else max(above[at + 1], row[-1]))
    return row[-1]


word_lists = st.lists(st.sampled_from("abcd"), max_size=90)


@given(word_lists, word_lists)
def test_the_common_sequence_is_that_of_the_usual_table(one: list[str], other: list[str]) -> None:
    assert longest_common(one, other) == _common_by_table(one, other)


def test_every_failed_test_is_named() -> None:
    example = Example(
        "e0", "in", "we are sorry and will refund you", "", ("refund",), ("no  idea", "lawyer")
    )
    answers = {
        "We are sorry, we will Refund you": (),
        "we are sorry": ("'refund' is missing",),
        "we will refund you, no idea": ("'no  idea' is forbidden",),
        "refund": ("ROUGE-L 0.25, 0.3 asked for",),
        "we are sorry and will refund you now and then": ("10 words, at most 8 allowed",),
        " ": (
            "0 words, at least 1 asked for",
            "'refund' is missing",
            "ROUGE-L 0.00, 0.3 asked for",
        ),
    }
    for answer, problems in answers.items():
        [scored] = TASK.score([example], {"e0": answer}).per_example
        assert scored.problems == problems
        assert scored.correct == (not problems)
        assert scored.valid == ("words" not in str(problems))


def test_the_headline_is_the_mean() -> None:
    examples = [Example(f"e{n}", str(n), "a b", "") for n in range(2)]
    scores = TASK.score(examples, {"e0": "a b", "e1": None})
    assert (scores.headline, scores.correct, scores.invalid, scores.judged_good) == (
        0.5,
        1,
        1,
        None,
    )
    sums = TASK.counts(scores.as_dict()).sum(axis=0)[None]
    assert TASK.headline_of(sums).tolist() == [0.5]


def test_a_judge_behind_an_endpoint_can_only_refuse() -> None:
    def judging(body: dict[str, object]) -> str:
        messages = body["messages"]
        assert isinstance(messages, list)
        assert "yes or no" in messages[0]["content"]
        answer = messages[1]["content"].split("<ANSWER ")[1]
        return "Yes." if "good" in answer else "no"

    examples = [Example(f"e{n}", str(n), "good answer", "") for n in range(3)]
    predictions: dict[str, str | None] = {"e0": "good answer", "e1": "bad answer", "e2": "good"}
    with serve(judging) as url:
        judge = endpoint_judge(AskSettings("judge", url))
        scores = Generation(minimum_rouge_l=0.9, judge=judge).score(examples, predictions)
    assert [row.judged for row in scores.per_example] == [True, False, True]
    assert [row.correct for row in scores.per_example] == [True, False, False]
    assert scores.judged_good == 2
    assert "the judge says no" in scores.per_example[1].problems


def test_a_judge_that_rambles_is_an_error() -> None:
    replies = itertools.cycle(["Well, it depends"])
    with serve(lambda _: next(replies)) as url:
        judge = endpoint_judge(AskSettings("judge", url))
        with pytest.raises(EndpointError, match=r"the judge answered 'well, it depends'.*e0"):
            judge([Example("e0", "i", "o", "")], {"e0": "x"})
