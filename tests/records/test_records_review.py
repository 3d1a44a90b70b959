"""The review of a sample: a draw that nobody chooses, answers that are all there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.records.review import (
    ReviewError,
    Tally,
    draw,
    read_answers,
    seed_of,
    tally,
    to_fill_in,
)

ROWS = [
    {"digest": f"{n:064x}", "record_id": f"r{n}", "input": f"text {n}", "output": "a"}
    for n in range(200)
]
DATASET = "d" * 64
SAMPLE = draw(ROWS, seed_of(DATASET), 5)
LABELS = ["a", "b"]


@given(st.permutations(ROWS[:40]), st.integers(1, 60))
def test_the_sample_does_not_depend_on_the_order(rows: list[dict[str, Any]], size: int) -> None:
    seed = seed_of(DATASET)
    drawn = draw(rows, seed, size)
    assert drawn == draw(ROWS[:40], seed, size)
    assert len({row["digest"] for row in drawn}) == min(size, 40)
    assert drawn[:3] == draw(rows, seed, 3)[:size]


def test_the_sample_is_another_for_another_dataset_and_takes_all_alike() -> None:
    assert draw(ROWS, seed_of("e" * 64), 5) != SAMPLE
    often = [0] * 10
    for number in range(300):
        for row in draw(ROWS[:10], seed_of(f"{number:064x}"), 3):
            often[int(row["digest"], 16)] += 1
    # 90 each are expected, with a standard deviation of 8.
    assert min(often) > 55
    assert max(often) < 125


def filled(**changes: Any) -> list[dict[str, Any]]:
    rows = [{**row, "answer": "accept"} for row in to_fill_in(DATASET, SAMPLE)]
    rows[2] |= changes
    return rows


def read(rows: list[Any]) -> Any:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return read_answers(lines, "a.jsonl", DATASET, SAMPLE, LABELS)


def test_answers_come_back_in_the_order_of_the_sample() -> None:
    rows = filled(answer="wrong_label", right_label="b", note=" odd ")
    answers = read([*reversed(rows), "", "  "])
    assert [answer.digest for answer in answers] == [row["digest"] for row in SAMPLE]
    assert answers[2].as_dict() == {
        "record_id": SAMPLE[2]["record_id"],
        "digest": SAMPLE[2]["digest"],
        "answer": "wrong_label",
        "right_label": "b",
        "note": "odd",
    }
    assert tally([answer.as_dict() for answer in answers]) == Tally(5, 5, 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"answer": None}, "line 3: the answer is None; write one of accept, wrong_label, skip"),
        ({"answer": "fine"}, "line 3: the answer is 'fine'"),
        ({"dataset": "e" * 64}, "line 3: it belongs to the dataset eeeeeeeeeeee"),
        ({"digest": "f" * 64}, "line 3: the record ffffffffffff is not in the sample"),
        ({"digest": SAMPLE[0]["digest"]}, "line 3: the record .* stands there twice"),
        ({"answer": "wrong_label", "right_label": "c"}, "line 3: 'c' is no label"),
        ({"answer": "wrong_label", "right_label": "a"}, "line 3: right_label 'a' goes with"),
        ({"right_label": "b"}, "line 3: right_label 'b' goes with"),
    ],
)
def test_a_wrong_line_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ReviewError, match=told):
        read(filled(**changes))


@pytest.mark.parametrize("line", ["{broken", "[]", "7", "[" * 100_000])
def test_what_is_no_object_is_named(line: str) -> None:
    with pytest.raises(ReviewError, match="line 6: expected a JSON object"):
        read([*filled(), line])


def test_a_missing_record_is_named() -> None:
    with pytest.raises(ReviewError, match=f"1 records .* first is {SAMPLE[4]['record_id']};"):
        read(filled()[:4])


@given(st.lists(st.sampled_from(["accept", "wrong_label", "skip"]), max_size=30))
def test_the_count_is_exact(answers: list[str]) -> None:
    found = tally([{"answer": answer} for answer in answers])
    assert found.size == len(answers)
    assert found.judged == len(answers) - answers.count("skip")
    assert found.errors == answers.count("wrong_label")
    assert found.enough == (found.judged > 0 and answers.count("skip") <= len(answers) / 2)
    assert 0 <= found.share <= 1
    assert found.judged or found.share == 1
