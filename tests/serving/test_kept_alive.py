"""Production moves under load, seen from each connection: nothing fails, nothing turns back."""

import time
from collections.abc import Callable, Sequence

import pytest

from bench.kept_alive import Answered, failure_of, since, turned_back
from serving.versions import Move
from tests.serving.serving_support import MODEL, Running, promote, rollback, under_load

PATIENCE_S = 60.0
OLD, NEW = f"{MODEL}-v0001", f"{MODEL}-v0002"


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def moves_of(running: Running) -> list[Callable[[], Move]]:
    def forth() -> Move:
        return promote(running.home, MODEL, "v0002", by="t", reason="load")

    def back() -> Move:
        return rollback(running.home, MODEL, by="t", reason="load")

    return [forth, back, back, back]


@pytest.mark.alone
def test_no_old_answer_follows_a_new_one_on_any_connection(running: Running) -> None:
    running.put("v0001")
    running.start("v0002")
    plain = under_load(running, count=3)
    streams = under_load(running, content="words=10 pause=0.05", stream=True, count=3)
    moved: list[tuple[float, float, Move]] = []
    with plain, streams:
        connections = plain.connections + streams.connections
        until(lambda: all(connections))
        for move in moves_of(running):
            time.sleep(0.2)  # So that streams, which began together, are under way.
            began = time.monotonic()
            made = move()
            moved.append((began, time.monotonic(), made))
            until(lambda: all(answered(one, moved[-1]) for one in connections))
    everything = [one for answers in connections for one in answers]
    assert [one for one in everything if one.failure] == []
    # One connection for each caller, all the while.
    assert [len({one.link for one in answers}) for answers in connections] == [1] * 6
    ends = [began for began, _, _ in moved[1:]] + [float("inf")]
    for (began, stood, made), end in zip(moved, ends, strict=True):
        for answers in connections:
            here = [one for one in since(answers, began) if one.ended < end]
            assert turned_back(here, made.to_version) == []
            asked_after = {one.version for one in here if one.began > stood}
            assert asked_after <= {made.to_version}
    # Streams that a move met half way ended where they began.
    crossing = [
        one.version == made.from_version
        for began, stood, made in moved
        for one in streams.answers
        if one.began < began - 0.1 and one.ended > stood + 0.1
    ]
    assert crossing
    assert all(crossing)


def answered(answers: Sequence[Answered], moved: tuple[float, float, Move]) -> bool:
    """Whether a connection has an answer that was asked for after a move."""
    return any(one.began > moved[1] for one in answers)


def test_what_turns_back_is_found() -> None:
    def at(number: int, version: str, failure: str = "") -> Answered:
        return Answered(number, number + 0.5, version, 1, failure)

    steady = [at(0, OLD), at(1, OLD), at(2, NEW), at(3, "", "503"), at(4, NEW)]
    assert turned_back(steady, NEW) == []
    late = at(5, OLD)
    assert turned_back([*steady, late], NEW) == [late]
    assert turned_back([at(0, OLD)], NEW) == []
    assert since(steady, 2.0) == steady[2:]


def test_an_answer_of_two_versions_is_a_failure() -> None:
    first, second = (f'{{"model": "{MODEL}@v000{number}-abc"}}' for number in (1, 2))
    assert failure_of(200, OLD, first, stream=False) == ""
    assert failure_of(200, OLD, f"data: {first}\n\ndata: [DONE]", stream=True) == ""
    assert "answered with what" in failure_of(200, NEW, first, stream=False)
    both = f"data: {first}\n\ndata: {second}\n\ndata: [DONE]"
    assert "answered with what" in failure_of(200, OLD, both, stream=True)
    assert failure_of(200, OLD, f"data: {first}", stream=True).startswith("broken stream")
    assert failure_of(503, "", "none", stream=False) == "503: none"
