"""Rows become tokens as the engine will see them; the end of turn is the last thing learned."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_steps import models
from gpu_steps.batching import batch_order
from gpu_steps.config import ConfigError
from gpu_steps.rows import IGNORED, Row, encode_rows, read_rows
from tests.gpu_steps.gpu_tiny import END, row, write_lines


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Any:
    return models.load_tokenizer(tiny_model)


def test_only_the_completion_is_learned_and_the_end_of_turn_last(tokenizer: Any) -> None:
    rows = [Row(**row(number)) for number in range(8)]
    for one, example in zip(rows, encode_rows(rows, tokenizer, 200, Path("f")), strict=True):
        learned = [label for label in example.labels if label != IGNORED]
        assert tokenizer.decode(learned) == one.completion
        assert learned[-1] == tokenizer.convert_tokens_to_ids(END)
        assert tokenizer.decode(example.input_ids) == one.prompt + one.completion
        assert example.labels[-len(learned) :] == example.input_ids[-len(learned) :]
        assert example.trained_tokens == len(learned)


def test_prompt_tokens_are_those_the_engine_makes_of_the_prompt_alone(tokenizer: Any) -> None:
    one = Row("r", "<|im_start|>assistant\n", f"\n\nnewlines{END}")
    example = encode_rows([one], tokenizer, 99, Path("f"))[0]
    prompt = tokenizer(one.prompt, add_special_tokens=False)["input_ids"]
    assert example.input_ids[: len(prompt)] == prompt
    assert example.labels[len(prompt) - 1] == IGNORED
    assert example.labels[len(prompt)] != IGNORED


def test_row_without_end_of_turn_is_refused(tokenizer: Any) -> None:
    rows = [Row("r1", "a", f"b{END}"), Row("r2", "a", "b")]
    with pytest.raises(ConfigError, match=r"line 2 \(record r2\): .* end-of-turn"):
        encode_rows(rows, tokenizer, 99, Path("train.jsonl"))


def test_row_that_is_too_long_is_refused_not_cut(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"line 1 \(record r1\): \d+ tokens exceed max_length 5"):
        encode_rows([Row("r1", "where is my parcel", f"b{END}")], tokenizer, 5, Path("train.jsonl"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not valid JSON"),
        ("[]", "line 2: must be a JSON object"),
        ("", "line 2: is not valid JSON"),
        ('{"record_id": "a", "prompt": "b"}', "line 2: must have the keys"),
        ('{"record_id": "a", "prompt": "", "completion": "c"}', "line 2: prompt must be a string"),
        ('{"record_id": 1, "prompt": "b", "completion": "c"}', "line 2: record_id must be"),
    ],
)
def test_bad_row_names_file_and_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row(0)) + "\n" + line + "\n")
    with pytest.raises(ConfigError) as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_empty_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no rows"):
        read_rows(write_lines(tmp_path / "empty.jsonl", []))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rows(tmp_path / "absent.jsonl")


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=120),
    st.integers(1, 17),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_order_is_a_permutation_that_follows_from_seed_and_epoch(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    order = batch_order(lengths, batch_size, seed, epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == batch_order(lengths, batch_size, seed, epoch)


def test_batches_hold_like_lengths_and_change_from_epoch_to_epoch() -> None:
    lengths = [10 + 7 * number % 90 for number in range(400)]

    def padded(order: list[int]) -> int:
        batches = [order[at : at + 16] for at in range(0, len(order), 16)]
        return sum(len(batch) * max(lengths[at] for at in batch) for batch in batches)

    first, second = batch_order(lengths, 16, 1, 0), batch_order(lengths, 16, 1, 1)
    assert padded(first) < 1.15 * sum(lengths) < 0.8 * padded(list(range(400)))
    assert first != second
    assert first != batch_order(lengths, 16, 2, 0)
