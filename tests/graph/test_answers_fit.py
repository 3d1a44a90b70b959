"""An answer that could not be generated whole is found before anything is trained."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from ftdm_assets.graph.dataset import _answers_fit


@pytest.fixture
def reading(tmp_path: Path) -> Any:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("_", "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = [
        {"completion": "a_b_c", "origin": "domain"},
        {"completion": "a", "origin": "domain"},
        {"completion": "a_b_c_d_e_f_g", "origin": "general"},
    ]
    return SimpleNamespace(
        artifact=lambda _: SimpleNamespace(path=tmp_path), records=lambda _: rows
    )


@pytest.mark.parametrize(("maximum", "passed"), [(4, False), (5, True)])
def test_the_longest_answer_decides(reading: Any, maximum: int, passed: bool) -> None:
    outcome = _answers_fit(reading, maximum, [])
    assert outcome.passed is passed
    assert outcome.measured == {"longest_answer_tokens": 5}
    assert passed or "raise attributes.task.max_new_tokens" in outcome.reason


@pytest.mark.parametrize(("maximum", "passed"), [(7, False), (8, True)])
def test_a_label_that_no_example_has_counts_too(reading: Any, maximum: int, passed: bool) -> None:
    outcome = _answers_fit(reading, maximum, ["a", "a_b_c_d"])
    assert outcome.passed is passed
    assert outcome.measured == {"longest_answer_tokens": 8}
