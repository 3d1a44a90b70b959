"""A whole answer as a stream and back, and what is neither."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.replay import Joined, as_stream, can_be_replayed

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CALL = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1),
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text(min_size=1), "arguments": st.text()}),
    }
)
MESSAGE = st.one_of(
    st.fixed_dictionaries({"content": st.text()}, optional={"reasoning": st.text(min_size=1)}),
    st.fixed_dictionaries(
        {"content": st.none(), "tool_calls": st.lists(CALL, min_size=1, max_size=3)}
    ),
)


def answer(said: dict[str, Any], finish: str = "stop", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "logprobs": None, "finish_reason": finish, "stop_reason": None, **said}
    head = {"id": "a", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": USAGE, **fields}


def joined(events: list[bytes]) -> Joined:
    one = Joined()
    for event in events:
        one.take(event)
    return one


def event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


@settings(max_examples=40)
@given(MESSAGE, st.sampled_from(["stop", "length", "tool_calls"]))
def test_a_chat_answer_is_the_same_after_a_stream(message: dict[str, Any], finish: str) -> None:
    whole = answer({"message": {"role": "assistant", **message}}, finish)
    assert can_be_replayed(whole)
    events = as_stream(whole)
    assert [one.usage for one in events] == [None] * (len(events) - 2) + [USAGE, None]
    assert joined([one.content for one in events]).whole() == whole


@settings(max_examples=40)
@given(st.text())
def test_a_completion_is_the_same_after_a_stream(text: str) -> None:
    whole = answer({"text": text}, object="text_completion")
    assert joined([one.content for one in as_stream(whole)]).whole() == whole


WHOLE = answer({"message": {"role": "assistant", "content": "a"}})


@pytest.mark.parametrize(
    "other",
    [
        None,
        [],
        3,
        {},
        {"error": {"message": "no"}},
        WHOLE | {"error": {}},
        WHOLE | {"usage": None},
        WHOLE | {"choices": []},
        WHOLE | {"choices": [1]},
        WHOLE | {"choices": WHOLE["choices"] * 2},
        answer({"message": {"content": "a"}}, "abort"),
        answer({"message": {"content": "a"}, "logprobs": {"content": [1]}}),
        answer({"message": {"content": "a"}, "token_ids": [1]}),
        answer({"message": {"content": "a", "audio": {"id": "x"}}}),
        answer({"message": "a"}),
        answer({}),
    ],
)
def test_what_cannot_be_told_in_both_forms(other: Any) -> None:
    assert can_be_replayed(WHOLE)
    assert not can_be_replayed(other)


STREAM = [one.content for one in as_stream(WHOLE)]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [DONE],
        STREAM[:-1],
        [*STREAM[:-2], DONE],
        [*STREAM[:2], event({"error": {"message": "broke"}}), DONE],
        [*STREAM[:2], b"data: {bad\n\n", *STREAM[2:]],
        [event({"choices": [{"index": 1, "delta": {"content": "b"}}]}), *STREAM],
        [event({"choices": [{"delta": {"content": "b"}, "logprobs": {"content": []}}]}), *STREAM],
        [event({"choices": [{"delta": {"content": "b", "audio": {"id": "x"}}}]}), *STREAM],
        [event({"choices": [{"delta": {"tool_calls": [{"index": 4}]}}]}), *STREAM],
    ],
)
def test_a_stream_that_makes_no_whole_answer(events: list[bytes]) -> None:
    assert joined(STREAM).whole() == WHOLE
    assert joined(events).whole() is None


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=30)))
def test_no_event_breaks_the_joining(events: list[bytes]) -> None:
    assert joined(events).whole() is None
    assert [Joined().take(one).content for one in events] == events
