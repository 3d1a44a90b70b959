"""What a gateway reads for each request: asked once in a turn of its loop, and never later."""

import asyncio
from pathlib import Path

import pytest

from serving.api_keys import Grant, KeyStore
from serving.database import SqliteDatabase
from serving.pointer import PointerStore
from serving.versions import UnknownModelError
from tests.serving.serving_support import MODEL, unasked
from tests.serving.test_pointer import a_version


def moved(home: Path, number: int) -> None:
    """Put a version into production, as another process does."""
    with PointerStore(home) as store:
        version = store.record_version(a_version(number))
        store.promote(MODEL, version.version, by="t", reason="t", admit=unasked)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the file has said when it was asked whether anybody has written."""
    said: list[object] = []
    ask = SqliteDatabase.state

    def state(database: SqliteDatabase) -> object:
        said.append(ask(database))
        return said[-1]

    monkeypatch.setattr(SqliteDatabase, "state", state)
    return said


def test_a_turn_of_the_loop_asks_once(tmp_path: Path, asked: list[object]) -> None:
    moved(tmp_path, 1)

    async def turns() -> None:
        with PointerStore(tmp_path, watching=True) as store:
            for turn in range(1, 4):
                assert {store.resolve(MODEL).version for _ in range(3)} == {f"{MODEL}-v0001"}
                assert len(asked) == turn
                await asyncio.sleep(0)

    asyncio.run(turns())


def test_what_comes_after_a_move_sees_it(tmp_path: Path) -> None:
    moved(tmp_path, 1)
    found = []

    async def answer(store: PointerStore) -> None:
        found.append(store.resolve(MODEL).version)

    async def turns() -> None:
        with PointerStore(tmp_path, watching=True) as store:
            for number in range(2, 6):
                await answer(store)
                moved(tmp_path, number)
                # Whatever a socket brings from now on begins in a later turn, like this task.
                await asyncio.create_task(answer(store))
                assert found[-2:] == [f"{MODEL}-v{number - 1:04}", f"{MODEL}-v{number:04}"]

    asyncio.run(turns())


def test_outside_of_a_loop_every_question_is_asked(tmp_path: Path) -> None:
    with PointerStore(tmp_path, watching=True) as store:
        with pytest.raises(UnknownModelError):
            store.resolve(MODEL)
        for number in (1, 2):
            moved(tmp_path, number)
            assert store.resolve(MODEL).version == f"{MODEL}-v{number:04}"


def test_keys_are_read_anew_when_somebody_has_written(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as keys, KeyStore(tmp_path, watching=True) as watching:
        made = keys.new(Grant("a", (MODEL,)), by="t")
        first = watching.find(made.text)
        assert first == made.key
        assert watching.find(made.text) is first
        assert watching.find(made.text[:-1] + "x") is None
        keys.revoke(made.key.key_id, by="t")
        found = watching.find(made.text)
        assert found is not None
        assert found.revoked_at is not None
        assert watching.find(keys.new(Grant("b", (MODEL,)), by="t").text) is not None
