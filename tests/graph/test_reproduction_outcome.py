"""When a training counts as reproduced, and what is said of what differs."""

import pytest

from ftdm_assets.graph.reproduction_outcome import compare_scores, judge
from ftdm_assets.provenance.comparison import environment_differences, package_differences

SAME = {"adapter": "a", "merged_model": "b"}
OTHER = {"adapter": "x", "merged_model": "b"}


@pytest.mark.parametrize(("now", "agree"), [(221, False), (222, True), (252, True), (253, False)])
def test_scores_agree_within_the_interval_of_the_evaluation(now: int, agree: bool) -> None:
    # 238 of 320: 69.3 % to 78.8 %, that is 221.8 to 252.3 right.
    found = compare_scores(238, 320, now, 320)
    assert found["agree"] is agree


def test_equal_digests_need_no_scores() -> None:
    assert judge(SAME, SAME, {}, [], "") == ("bit_for_bit", "reproduced, bit for bit")
    differences = environment_differences({"cpu": "A"}, {"cpu": "B"})
    _, told = judge(SAME, SAME, {}, differences, "")
    assert told == "reproduced, bit for bit, with 1 entry of the environment different"


def test_other_digests_name_what_differs_and_need_the_scores() -> None:
    differences = environment_differences(
        {"decides": {"cpu": "A", "threads": 2}}, {"decides": {"cpu": "B", "threads": 4}}
    )
    outcome, told = judge(SAME, OTHER, compare_scores(238, 320, 240, 320), differences, "")
    assert outcome == "same_scores"
    assert "adapter came out with other digests" in told
    assert "different now: decides.cpu A → B, decides.threads 2 → 4" in told
    assert "240 of 320 right, recorded 238 of 320: within its interval (69.3% to 78.8%)" in told
    outcome, told = judge(SAME, OTHER, compare_scores(238, 320, 100, 320), [], "")
    assert outcome == "not_reproduced"
    assert "no entry of the environment differs" in told
    assert "outside its interval" in told
    outcome, told = judge(SAME, OTHER, {}, differences, "no vLLM")
    assert outcome == "not_reproduced"
    assert "the scores could not be compared: no vLLM" in told


def test_packages_are_compared_by_name() -> None:
    then, now = "a==1\nb==1\nc==1\nc==2\n", "a==1\nb==2\nc==2\nd==1\n"
    assert package_differences(then, now) == [
        {"entry": "package b", "recorded": "1", "now": "2"},
        {"entry": "package c", "recorded": "1, 2", "now": "2"},
        {"entry": "package d", "recorded": "absent", "now": "1"},
    ]
    assert package_differences(then, then) == []
