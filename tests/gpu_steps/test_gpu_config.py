"""A step starts only with a configuration that it wholly understands."""

import json
import string
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_steps.config import ConfigError, parse, read_config


@dataclass(frozen=True)
class Inner:
    size: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    name: str
    rate: float
    inner: Inner
    path: Path
    flag: bool = False
    maybe: int | None = None
    env: dict[str, str] = field(default_factory=dict)


GOOD: dict[str, Any] = {"name": "a", "rate": 1, "inner": {"size": 2}, "path": "x/y"}


def test_whole_configuration_becomes_its_dataclass() -> None:
    found = parse(GOOD | {"inner": {"size": 2, "tags": ["a"]}, "env": {"A": "b"}}, Step, "step")
    assert found == Step("a", 1.0, Inner(2, ("a",)), Path("x/y"), env={"A": "b"})
    assert isinstance(found.rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "step.json: unknown key 'colour'"),
        ({"rate": "fast"}, "step.json: rate must be a number, not 'fast'."),
        ({"rate": True}, "step.json: rate must be a number, not True."),
        ({"flag": 1}, "step.json: flag must be a true or false, not 1."),
        ({"inner": {}}, "step.json: inner: the key 'size' is missing; add it."),
        ({"inner": {"size": 1, "tags": [1]}}, "step.json: inner: tags[0] must be a string"),
        ({"inner": {"size": 1, "tags": "a"}}, "step.json: inner: tags must be a list"),
        ({"inner": 3}, "step.json: inner: must be a JSON object, not int."),
        ({"env": {"A": 1}}, "step.json: env.A must be a string"),
        ({"maybe": 1.5}, "step.json: maybe must be a whole number, not 1.5."),
        ({"path": ""}, "step.json: path must be a path, not ''."),
    ],
)
def test_wrong_configuration_names_the_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD | change, Step, "step.json")
    assert str(caught.value).startswith(message)


@given(st.sampled_from(sorted(GOOD)))
def test_missing_key_is_named(key: str) -> None:
    content = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(ConfigError, match=f"the key '{key}' is missing"):
        parse(content, Step, "step.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(string.printable), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "flag", "maybe", "env", "other"]), json_values))
def test_any_json_is_taken_whole_or_refused(content: dict[str, Any]) -> None:
    found, message = None, ""
    try:
        found = parse(content, Step, "step.json")
    except ConfigError as error:
        message = str(error)
    assert (found is None) == message.startswith("step.json: ")
    if found is not None:
        assert set(content) >= {"name", "rate", "inner", "path"}


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.json", Step)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        read_config(tmp_path / "bad.json", Step)


@pytest.mark.parametrize("program", ["prepare_base", "train", "merge", "predict"])
def test_programs_end_with_2_and_one_sentence(program: str, tmp_path: Path) -> None:
    (tmp_path / "step.json").write_text(json.dumps({"surprise": 1}))
    done = subprocess.run(
        [sys.executable, "-m", f"gpu_steps.{program}", "--config", str(tmp_path / "step.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "unknown key 'surprise'" in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dora"}, "method must be one of lora, qlora, full, not 'dora'"),
        ({"method": "full"}, "lora must be null with method 'full'"),
        ({"lora": None}, "lora must be the adapter's shape with method 'lora'"),
        ({"epochs": 0}, "epochs must be greater than 0"),
        ({"lora": {"r": 0, "alpha": 1, "dropout": 0, "target_modules": ["q"]}}, "lora needs r"),
        ({"lora": {"r": 1, "alpha": 1, "dropout": 0, "target_modules": "q"}}, "must be a list"),
    ],
)
def test_train_refuses_values_that_cannot_train(
    train_settings: Callable[..., dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    from gpu_steps.train import Train

    with pytest.raises(ConfigError, match=message):
        parse(train_settings(**changes), Train, "step.json")
