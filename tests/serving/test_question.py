"""What tells two requests apart, and which may be answered from the cache."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ApiError
from serving.question import may_be_kept, told_apart, wish_of
from serving.versions import CacheTerms, Replica, Version
from tests.serving.cache_support import CHAT, chat
from tests.serving.serving_support import MODEL, digest_of

VERSION = Version(
    *(MODEL, f"{MODEL}-v0001", digest_of("1"), Path("/no"), "served", 2048, "bfloat16")
)
BODY = chat("a", temperature=0, max_tokens=3)
FIELDS = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers()),
    max_size=5,
)


def apart(
    body: dict[str, Any] = BODY,
    version: Version = VERSION,
    path: str = CHAT,
    form: Mapping[str, Any] | None = None,
) -> bytes:
    found = told_apart(path, body, version, form or {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    "other",
    [
        chat("b", temperature=0, max_tokens=3),
        BODY | {"max_tokens": 4},
        BODY | {"tools": []},
        BODY | {"response_format": {"type": "json_object"}},
        BODY | {"never heard of": 1},
        BODY | {"seed": True},
        BODY | {"messages": [{"role": "system", "content": "a"}]},
        BODY | {"messages": BODY["messages"] * 2},
    ],
)
def test_what_can_change_the_answer_tells_apart(other: dict[str, Any]) -> None:
    assert apart() != apart(other)
    assert apart(BODY | {"seed": 1}) != apart(other)


@pytest.mark.parametrize(
    "other",
    [
        BODY | {"stream": True, "stream_options": {"include_usage": True}, "user": "x"},
        BODY | {"model": f"{MODEL}@v0001", "temperature": 0.0},
        dict(reversed(BODY.items())),
        BODY | {"messages": [dict(reversed(BODY["messages"][0].items()))]},
    ],
)
def test_what_cannot_does_not(other: dict[str, Any]) -> None:
    assert apart() == apart(other)


@pytest.mark.parametrize(
    "other",
    [
        replace(VERSION, version=f"{MODEL}-v0002"),
        replace(VERSION, digest=digest_of("2")),
        replace(VERSION, max_model_len=4096),
        replace(VERSION, dtype="float16"),
    ],
)
def test_versions_are_told_apart(other: Version) -> None:
    assert apart() != apart(version=other)
    # Where it runs, and under which terms, changes no answer.
    elsewhere = (Replica("x", "x", 1, None),)
    assert apart() == apart(version=replace(VERSION, replicas=elsewhere, cache=CacheTerms(ttl_s=1)))


def test_paths_are_told_apart() -> None:
    assert apart() != apart(path="/v1/completions")


def test_forms_are_told_apart() -> None:
    one, two, three = {"choice": ["a"]}, {"choice": ["a", "b"]}, {"json": {"type": "object"}}
    assert len({apart(form=form) for form in ({}, one, two, three)}) == 4
    # What the version may hold answers to counts for nothing where this one is held to nothing.
    assert apart() == apart(version=replace(VERSION, form=one))


def test_the_order_of_a_schemas_properties_tells_apart() -> None:
    """The engine writes them in this order: sorted keys would give one's answer to the other."""

    def asked(*names: str) -> dict[str, Any]:
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        return BODY | {"structured_outputs": {"json": schema}}

    assert apart(asked("x", "y")) != apart(asked("y", "x"))


@settings(max_examples=40)
@given(FIELDS, FIELDS)
def test_equal_requests_and_only_those_are_one(one: dict[str, Any], two: dict[str, Any]) -> None:
    ignored = {"model", "stream", "stream_options", "user"}
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (apart(one) == apart(two)) == same or ignored & {*one, *two}
    assert apart(one) == apart(json.loads(json.dumps(one)))


@pytest.mark.parametrize("content", ['"\\ud800"', "NaN", "Infinity"])
def test_what_is_no_json_is_told_apart_from_nothing(content: str) -> None:
    assert told_apart(CHAT, BODY | {"x": json.loads(content)}, VERSION, {}) is None


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_endless_nesting_is_not_kept() -> None:
    assert told_apart(CHAT, BODY | {"x": deep(100_000)}, VERSION, {}) is None


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"n": 1, "logprobs": False, "stream_options": None, "top_logprobs": 0}, True),
        ({"stream_options": {"include_usage": True}}, True),
        ({"stream_options": {"continuous_usage_stats": True}}, False),
        ({"stream_options": 3}, False),
        ({"n": 2}, False),
        ({"best_of": 2}, False),
        ({"logprobs": True}, False),
        ({"logprobs": 0}, False),
        ({"top_logprobs": 2}, False),
        ({"prompt_logprobs": 0}, False),
    ],
)
def test_which_requests_may_be_kept(fields: dict[str, Any], kept: bool) -> None:
    assert may_be_kept(BODY | fields, VERSION, "") is kept
    assert may_be_kept(BODY | fields | {"temperature": 1}, VERSION, "on") is kept
    assert not may_be_kept(BODY | fields, VERSION, "off")
    assert not may_be_kept(BODY | fields, replace(VERSION, cache=CacheTerms(False)), "on")


@pytest.mark.parametrize("temperature", [0.1, 1, "0", False, [], None])
def test_only_greedy_answers_are_kept(temperature: Any) -> None:
    # Without a file that says otherwise the engine samples at 1.
    assert not may_be_kept(BODY | {"temperature": temperature}, VERSION, "")


@pytest.mark.parametrize(
    ("content", "kept"),
    [('{"temperature": 0.0}', True), ('{"temperature": 0.7}', False), ("{}", False)]
    + [(content, False) for content in ("[]", "no", '{"temperature": null}', "")],
)
def test_the_models_own_temperature(tmp_path: Path, content: str, kept: bool) -> None:
    version = replace(VERSION, folder=tmp_path / "model")
    # Its folder is not there yet.
    assert not may_be_kept(chat(), version, "")
    version.folder.mkdir()
    (version.folder / "generation_config.json").write_text(content, encoding="utf-8")
    assert may_be_kept(chat(), version, "") is kept


def test_a_model_without_generation_config_is_asked_for_it_once(tmp_path: Path) -> None:
    version = replace(VERSION, folder=tmp_path, digest="e" * 64)
    assert not may_be_kept(chat(), version, "")
    (tmp_path / "generation_config.json").write_text('{"temperature": 0}', encoding="utf-8")
    # Of this digest it has none: what lies there now is not the model's.
    assert not may_be_kept(chat(), version, "")


def test_a_wish_is_on_or_off() -> None:
    assert [wish_of({}), wish_of({"x-ftdm-cache": " OFF "})] == ["", "off"]
    with pytest.raises(ApiError) as error:
        wish_of({"x-ftdm-cache": "maybe"})
    assert "write `on` or `off`" in error.value.message
