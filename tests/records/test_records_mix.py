"""The mix: share, order, and that the order of the input never matters."""

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.records.mix import ChatRow, Instruction, general_rows, training_rows

INSTRUCTIONS = [Instruction(f"Say {n}", f"{n}") for n in range(60)]


def render(text: str, output: str) -> tuple[str, str]:
    return f"<user>{text}</user>", f"{output}<end>"


def records(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "record_id": [f"r{n:04d}" for n in range(count)],
            "input": [f"text {n}" for n in range(count)],
            "output": [f"label {n % 4}" for n in range(count)],
        }
    )


@given(st.integers(20, 5000), st.sampled_from([0.05, 0.06, 0.075, 0.1]))
def test_the_share_stays_within_its_bounds(count: int, share: float) -> None:
    general = general_rows(count, share)
    assert 0.05 <= general / (count + general) <= 0.1
    assert abs(general - share * (count + general)) <= 1


def test_a_share_outside_the_usual_bounds_is_kept() -> None:
    assert general_rows(100, 0) == 0
    assert general_rows(60, 0.4) == 40


def test_rows_are_rendered_and_named() -> None:
    rows = training_rows(
        records(100),
        INSTRUCTIONS,
        render,
        share=0.07,
        seed=1,
        render_general=lambda text, answer: (f"general {text}", answer),
    )
    assert len(rows) == 108
    assert ChatRow("r0007", "domain", "<user>text 7</user>", "label 3<end>") in rows
    general = [row for row in rows if row.origin == "general"]
    assert len(general) == 8
    assert all(row.prompt.startswith("general Say") for row in general)
    assert len({row.record_id for row in rows}) == 108


def test_the_order_of_the_input_does_not_matter_but_the_seed_does() -> None:
    frame = records(100)
    rows = training_rows(frame, INSTRUCTIONS, render, 0.05, 3)
    assert training_rows(frame.iloc[::-1], INSTRUCTIONS[::-1], render, 0.05, 3) == rows
    other = training_rows(frame, INSTRUCTIONS, render, 0.05, 4)
    assert other != rows
    domain = {row for row in rows if row.origin == "domain"}
    assert {row for row in other if row.origin == "domain"} == domain


def test_general_rows_are_spread_among_the_others() -> None:
    rows = training_rows(records(400), INSTRUCTIONS, render, 0.1, 0)
    halves = [sum(r.origin == "general" for r in part) for part in (rows[:222], rows[222:])]
    assert min(halves) >= 12


def test_repeated_instructions_count_once() -> None:
    with pytest.raises(ValueError, match="needs 15 instructions, there are 1"):
        training_rows(records(200), [INSTRUCTIONS[0]] * 50, render, 0.07, 0)


def test_a_large_dataset_sees_each_instruction_about_equally_often() -> None:
    rows = training_rows(records(400), INSTRUCTIONS[:10], render, 0.07, 0)
    general = Counter(row.record_id for row in rows if row.origin == "general")
    assert sum(general.values()) == 30
    assert set(general.values()) == {3}


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_a_share_that_cannot_be_meant_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"outside 0-0\.5"):
        training_rows(records(10), INSTRUCTIONS, render, share, 0)
