"""A stream that another replica goes on with: each character once, one id, one end."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.transcript import BrokenOffError, CannotGoOnError, Events, Transcript

END = b"data: [DONE]\n\n"
USAGE = {"choices": [], "usage": {"total_tokens": 7}}
PIECES = st.lists(st.text(max_size=4), min_size=1, max_size=8)


def event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def answer(pieces: list[str], ident: str, chat: bool = True) -> list[bytes]:
    """Return the events of one replica's stream, as an engine writes them."""
    head = {"id": ident, "created": len(ident)}
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": piece}} if chat else {"index": 0, "text": piece}
        for piece in pieces
    ]
    if chat:
        choices.insert(0, {"index": 0, "delta": {"role": "assistant", "content": ""}})
    choices[-1]["finish_reason"] = "stop"
    return [*(event({**head, "choices": [one]}) for one in choices), event({**head, **USAGE}), END]


def told(stream: bytes) -> list[dict[str, Any]]:
    assert stream.endswith(END)
    return [json.loads(one.removeprefix(b"data: ")) for one in stream.split(b"\n\n")[:-2]]


def text(contents: list[dict[str, Any]]) -> str:
    choices = [choice for content in contents for choice in content["choices"]]
    return "".join(one["delta"]["content"] if "delta" in one else one["text"] for one in choices)


@given(PIECES, st.lists(st.integers(0, 12), max_size=3), st.booleans(), st.randoms())
def test_broken_anywhere_the_caller_sees_one_whole_stream(
    pieces: list[str], breaks: list[int], chat: bool, random: Any
) -> None:
    transcript, seen = Transcript(), b""
    for number, at in enumerate([*breaks, 100]):
        # Another replica may cut the same text into other pieces.
        whole = "".join(pieces)
        cut = sorted(random.randrange(len(whole) + 1) for _ in range(3)) if number else []
        edges = [0, *cut, len(whole)]
        mine = [whole[a:b] for a, b in itertools.pairwise(edges)] if number else pieces
        stream = answer(mine, f"replica-{number}", chat)
        new, error = transcript.take_all(stream[:at])
        assert error is None
        seen += new
        if transcript.ended:
            break
        transcript.start_again()
    contents = told(seen)
    assert text(contents) == "".join(pieces)
    assert {one["id"] for one in contents} == {contents[0]["id"]}
    finished = [c for one in contents for c in one["choices"] if c.get("finish_reason")]
    assert len(finished) == 1
    assert [one["usage"] for one in contents if one.get("usage")] == [USAGE["usage"]]


@given(PIECES, PIECES, st.integers(1, 8))
def test_another_beginning_is_never_gone_on_with(
    first: list[str], second: list[str], at: int
) -> None:
    transcript = Transcript()
    seen, _ = transcript.take_all(answer(first, "a", chat=False)[: min(at, len(first))])
    before = "".join(first[:at])
    transcript.start_again()
    new, error = transcript.take_all(answer(second, "b", chat=False))
    finished = at >= len(first)
    if "".join(second) == before or ("".join(second).startswith(before) and not finished):
        assert error is None
        assert text(told(seen + new)) == "".join(second)
    else:
        assert isinstance(error, CannotGoOnError)
        assert text([json.loads(e[6:]) for e in new.split(b"\n\n") if e[6:7] == b"{"]) == ""


@pytest.mark.parametrize(
    "choices",
    [
        [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}],
        [{"index": 1, "delta": {"content": "a"}}],
        [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}}],
        [{"index": 0, "delta": {"reasoning_content": "hm"}}],
        [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": []}}],
    ],
)
def test_what_cannot_be_compared_is_passed_on_once(choices: list[dict[str, Any]]) -> None:
    transcript, one = Transcript(), event({"id": "a", "choices": choices})
    assert transcript.take(one) == one
    with pytest.raises(CannotGoOnError):
        transcript.start_again()


def test_an_error_event_is_a_break_and_what_came_before_it_is_told() -> None:
    first = answer(["a"], "a", chat=False)[0]
    new, error = Transcript().take_all([first, event({"error": {"message": "gone"}}), END])
    assert new == first
    assert isinstance(error, BrokenOffError)
    assert "gone" in str(error)


@given(st.lists(st.binary(max_size=20)))
def test_events_are_the_same_however_the_bytes_arrive(chunks: list[bytes]) -> None:
    whole, piecewise = Events(), Events()
    found = [one for chunk in chunks for one in piecewise.cut(chunk)]
    assert found == whole.cut(b"".join(chunks))


def test_an_event_without_an_end_is_refused() -> None:
    events = Events()
    with pytest.raises(BrokenOffError, match="longer than"):
        events.cut(b"x" * (1024 * 1024 + 1))
