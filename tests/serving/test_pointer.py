import itertools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from serving.pointer import PointerStore
from serving.versions import (
    CacheTerms,
    Move,
    PointerError,
    Replica,
    State,
    UnknownModelError,
    Version,
)
from tests.serving.databases import REFUSED, both, emptied, is_shared, raw
from tests.serving.serving_support import MODEL, digest_of, unasked

ROOT = Path(__file__).resolve().parents[2]


def a_version(number: int, state: State = "ready", model: str = MODEL) -> Version:
    full = f"{model}-v{number:04d}"
    replicas = (Replica(f"{full}-replica-0", "http://127.0.0.1:20001", 20001, (0,)),)
    return Version(
        *(model, full, digest_of(full), Path("/models") / full, f"{model}@x", 2048, "bfloat16"),
        replicas=replicas,
        state=state,
    )


def promote(home: Path, version: str, *, by: str, reason: str) -> Move:
    with PointerStore(home) as store:
        return store.promote(MODEL, version, by=by, reason=reason, admit=unasked)


def rollback(
    home: Path,
    to: str | None = None,
    *,
    by: str,
    reason: str,
    admit: Callable[[Version], None] = unasked,
) -> Move:
    with PointerStore(home) as store:
        return store.rollback(MODEL, to, by=by, reason=reason, admit=admit)


def filled(home: Path, count: int) -> None:
    with PointerStore(home) as store:
        for number in range(1, count + 1):
            store.record_version(a_version(number))


@both
def test_a_version_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    with PointerStore(tmp_path) as store:
        written = store.record_version(a_version(1))
    with PointerStore(tmp_path) as store:
        assert store.version(MODEL, "v0001") == written
        assert store.versions() == [written]


@both
def test_a_name_means_what_was_written_last_by_whomever(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    with PointerStore(tmp_path) as store, PointerStore(tmp_path) as other:
        with pytest.raises(UnknownModelError):
            store.resolve(MODEL)
        for writer, number in ((other, 1), (store, 2), (other, 3), (store, 1), (other, 2)):
            writer.promote(MODEL, f"v{number:04d}", by="ana", reason="r", admit=unasked)
            assert store.resolve(MODEL) == store.version(MODEL, f"v{number:04d}")
            assert store.resolve(MODEL) == other.resolve(MODEL)
        before = store.resolve(f"{MODEL}@v0003")
        for writer in (other, store):
            writer.record_version(replace(before, max_model_len=id(writer) % 10_000))
            assert store.resolve(f"{MODEL}@v0003").max_model_len == id(writer) % 10_000


@both
def test_a_database_of_before_the_result_cache_is_taken_over(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    with raw(tmp_path / "serving.db") as execute:
        execute("ALTER TABLE versions DROP COLUMN cache")
    with PointerStore(tmp_path) as store:
        assert store.version(MODEL, "v0001").cache == CacheTerms()
        other = replace(a_version(2), cache=CacheTerms(enabled=False, ttl_s=3))
        store.record_version(other)
        assert store.version(MODEL, "v0002").cache == other.cache


@both
def test_a_database_of_before_forms_is_taken_over(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    with raw(tmp_path / "serving.db") as execute:
        execute("ALTER TABLE versions DROP COLUMN form")
        execute("ALTER TABLE versions DROP COLUMN cache")
    with PointerStore(tmp_path) as store, PointerStore(tmp_path) as beside:
        assert store.version(MODEL, "v0001").form == {}
        schema = {"type": "object", "properties": {"z": {}, "ä": {"const": "ü"}, "a": {}}}
        store.record_version(replace(a_version(2), form={"json": schema}))
        found = beside.version(MODEL, "v0002")
        # With its order: an answer's keys come in it.
        assert json.dumps(found.form) == json.dumps({"json": schema})
        assert found.cache == CacheTerms()


@both
def test_promotions_and_rollbacks_leave_a_history(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    promote(tmp_path, "v0001", by="ana", reason="first")
    promote(tmp_path, f"{MODEL}-v0002", by="ana", reason="better")
    move = rollback(tmp_path, by="bob", reason="worse")
    assert (move.kind, move.from_version, move.to_version) == (
        "rollback",
        f"{MODEL}-v0002",
        f"{MODEL}-v0001",
    )
    with PointerStore(tmp_path) as store:
        pointer = store.pointer(MODEL)
        assert pointer
        assert (pointer.current, pointer.previous) == (f"{MODEL}-v0001", f"{MODEL}-v0002")
        assert [one.kind for one in store.moves(MODEL)] == ["promote", "promote", "rollback"]
        assert store.resolve(MODEL).version == f"{MODEL}-v0001"
        assert store.resolve(f"{MODEL}@previous").version == f"{MODEL}-v0002"
        assert store.resolve(f"{MODEL}@v0002").version == f"{MODEL}-v0002"


@both
def test_promoting_the_current_version_again_changes_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    first = promote(tmp_path, "v0001", by="ana", reason="first")
    assert promote(tmp_path, "v0001", by="bob", reason="again") == first
    with PointerStore(tmp_path) as store:
        assert store.moves(MODEL) == [first]


@both
def test_a_promotion_decided_over_another_production_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    over = digest_of(f"{MODEL}-v0001")
    with PointerStore(tmp_path) as store:
        store.promote(MODEL, "v0001", by="ana", reason="first", over="", admit=unasked)
        store.promote(MODEL, "v0002", by="ana", reason="better", over=over, admit=unasked)
        # The first to come may have stopped the other already: the reason stays the same.
        store.set_state(MODEL, f"{MODEL}-v0003", "stopped")
        with pytest.raises(PointerError) as refused:
            store.promote(MODEL, "v0003", by="bob", reason="better", over=over, admit=unasked)
        assert (
            store.promote(MODEL, "v0002", by="bob", reason="again", over=over, admit=unasked).by
            == "ana"
        )
        assert len(store.moves(MODEL)) == 2
    told = str(refused.value)
    assert told.startswith(f"{MODEL}-v0003 ({digest_of(f'{MODEL}-v0003')[:12]}) is refused: ")
    assert f"production moved to {MODEL}-v0002" in told
    assert f"decided over {over[:12]}; eval_scores.not_worse_than_production" in told


@both
def test_only_a_ready_version_becomes_current(tmp_path: Path) -> None:
    with PointerStore(tmp_path) as store:
        store.record_version(a_version(1, "starting"))
    with pytest.raises(PointerError, match="is starting, not ready"):
        promote(tmp_path, "v0001", by="ana", reason="early")
    with pytest.raises(UnknownModelError, match="not known here"):
        promote(tmp_path, "v0009", by="ana", reason="none")


@both
def test_a_rollback_without_a_target_says_so(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    with pytest.raises(UnknownModelError, match="in production"):
        rollback(tmp_path, by="ana", reason="r")
    promote(tmp_path, "v0001", by="ana", reason="first")
    with pytest.raises(PointerError, match="no previous version"):
        rollback(tmp_path, by="ana", reason="r")
    with pytest.raises(PointerError, match="in production already"):
        rollback(tmp_path, "v0001", by="ana", reason="r")
    assert rollback(tmp_path, "v0002", by="ana", reason="r").to_version.endswith("v0002")


@both
def test_a_promotion_that_is_not_admitted_moves_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 1)

    def refuse(version: Version) -> None:
        raise PointerError(f"{version.version} has no seal")

    with PointerStore(tmp_path) as store:
        with pytest.raises(PointerError, match="v0001 has no seal"):
            store.promote(MODEL, "v0001", by="ana", reason="r", admit=refuse)
        assert store.pointer(MODEL) is None


@both
def test_a_rollback_that_is_not_admitted_moves_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    promote(tmp_path, "v0001", by="ana", reason="first")
    promote(tmp_path, "v0002", by="ana", reason="second")

    def refuse(version: Version) -> None:
        raise PointerError(f"{version.version} is cold")

    with pytest.raises(PointerError, match="v0001 is cold"):
        rollback(tmp_path, by="ana", reason="r", admit=refuse)
    with PointerStore(tmp_path) as store:
        assert len(store.moves(MODEL)) == 2


@both
def test_a_version_is_bound_to_its_digest(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    other = Version(*(MODEL, f"{MODEL}-v0001", digest_of("other"), Path("/m"), "s", 1, "bfloat16"))
    with PointerStore(tmp_path) as store, pytest.raises(PointerError, match="never changes"):
        store.record_version(other)


@pytest.mark.parametrize(("by", "reason"), [("", "r"), ("ana", " ")])
@both
def test_a_move_needs_a_name_and_a_reason(tmp_path: Path, by: str, reason: str) -> None:
    filled(tmp_path, 1)
    with pytest.raises(PointerError, match="needs a name"):
        promote(tmp_path, "v0001", by=by, reason=reason)
    with PointerStore(tmp_path) as store:
        assert store.pointer(MODEL) is None


@both
def test_the_history_cannot_be_changed(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    promote(tmp_path, "v0001", by="ana", reason="first")
    emptying = ["TRUNCATE moves"] if is_shared() else []
    with raw(tmp_path / "serving.db") as execute:
        for statement in ("UPDATE moves SET by = 'eve'", "DELETE FROM moves", *emptying):
            with pytest.raises(REFUSED, match="append-only"):
                execute(statement)


@pytest.mark.parametrize("name", ["", "x", "bad name", f"{MODEL}@v0009", f"{MODEL}@previous"])
@both
def test_unknown_names(tmp_path: Path, name: str) -> None:
    filled(tmp_path, 1)
    promote(tmp_path, "v0001", by="ana", reason="first")
    with PointerStore(tmp_path) as store, pytest.raises(UnknownModelError):
        store.resolve(name)


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from serving.pointer import PointerStore
store = PointerStore(Path(sys.argv[1]))
left = int(sys.argv[2])
def step(_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
store._db.connection.set_trace_callback(step)
store._db.connection.set_progress_handler(lambda: step(None), 5)
store.promote("support_tickets", "v0002", by="crash", reason="test", admit=lambda _: None)
"""


def test_killed_at_any_step_a_promotion_is_made_or_not_made(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    filled(whole, 2)
    promote(whole, "v0001", by="ana", reason="first")
    outcomes, step = set(), 0
    while True:
        home = tmp_path / f"at-{step}"
        shutil.copytree(whole, home)
        command = [sys.executable, "-c", KILLED_AT, str(home), str(step)]
        done = subprocess.run(command, cwd=ROOT, timeout=30, check=False)
        with PointerStore(home) as store:
            pointer, moves = store.pointer(MODEL), store.moves(MODEL)
        assert pointer
        state = (pointer.current[-5:], pointer.previous and pointer.previous[-5:], len(moves))
        assert state in {("v0001", None, 1), ("v0002", "v0001", 2)}
        outcomes.add(state)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        step += 1 if step < 6 else 4
    assert len(outcomes) == 2
    assert step > 10


@both
def test_two_processes_that_promote_at_once_both_end_in_the_history(tmp_path: Path) -> None:
    filled(tmp_path, 8)
    code = (
        "import sys; from pathlib import Path; from serving.pointer import PointerStore\n"
        "for n in sys.argv[2:]:\n"
        "  with PointerStore(Path(sys.argv[1])) as store:\n"
        "    store.promote('support_tickets', n, by=n, reason='r', admit=lambda _: None)"
    )
    numbers = [["v0001", "v0003", "v0005", "v0007"], ["v0002", "v0004", "v0006", "v0008"]]
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *mine], cwd=ROOT)
        for mine in numbers
    ]
    assert [one.wait(30) for one in started] == [0, 0]
    with PointerStore(tmp_path) as store:
        moves, pointer = store.moves(MODEL), store.pointer(MODEL)
    assert len(moves) == 8
    assert pointer
    assert moves[-1].to_version == pointer.current
    assert all(
        later.from_version == earlier.to_version for earlier, later in itertools.pairwise(moves)
    )


@both
def test_a_rollback_is_fast_and_imports_nothing_heavy(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    promote(tmp_path, "v0001", by="ana", reason="first")
    promote(tmp_path, "v0002", by="ana", reason="second")
    code = (
        "import json, sys, time; from pathlib import Path; began = time.perf_counter()\n"
        "from serving import moves\n"
        "from serving.admission import StoreAdmission\n"
        "from serving.pointer import PointerStore\n"
        "with PointerStore(Path(sys.argv[1])) as store:\n"
        "  store.rollback('support_tickets', by='ana', reason='night', admit=lambda _: None)\n"
        "print(json.dumps([time.perf_counter() - began, sorted(sys.modules)]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    out = subprocess.run(command, cwd=ROOT, timeout=30, check=True, capture_output=True).stdout
    seconds, modules = json.loads(out)
    heavy = {"torch", "dagster", "pandas", "numpy", "aiohttp", "starlette", "uvicorn", "httpx"}
    assert not (heavy if is_shared() else {*heavy, "psycopg"}) & set(modules)
    assert seconds < 2.0


class PointerMachine(RuleBasedStateMachine):
    """Any sequence of moves, compared with what the rules say in five lines of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        emptied()
        self.store = PointerStore(self.home)
        self.states: dict[str, State] = {}
        self.current: str | None = None
        self.previous: str | None = None
        self.count = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.home)

    @rule(number=st.integers(1, 4), state=st.sampled_from(["ready", "stopped", "failed"]))
    def record(self, number: int, state: State) -> None:
        version = self.store.record_version(a_version(number, state))
        self.states[version.version] = state

    @rule(number=st.integers(1, 4))
    def promote(self, number: int) -> None:
        full = f"{MODEL}-v{number:04d}"
        if self.states.get(full) != "ready":
            with pytest.raises(PointerError):
                self.store.promote(MODEL, full, by="a", reason="r", admit=unasked)
            return
        self._moved(
            self.store.promote(MODEL, full, by="a", reason="r", admit=unasked), full, "promote"
        )

    @rule(number=st.one_of(st.none(), st.integers(1, 4)))
    def rollback(self, number: int | None) -> None:
        target = self.previous if number is None else f"{MODEL}-v{number:04d}"
        allowed = self.current and target != self.current and self.states.get(target or "")
        if not allowed or allowed != "ready":
            with pytest.raises(PointerError):
                self.store.rollback(
                    MODEL, target if number else None, by="a", reason="r", admit=unasked
                )
            return
        move = self.store.rollback(
            MODEL, target if number else None, by="a", reason="r", admit=unasked
        )
        self._moved(move, target or "", "rollback")

    def _moved(self, move: Move, target: str, kind: str) -> None:
        assert move.to_version == target
        if self.current != target:
            assert (move.kind, move.from_version) == (kind, self.current)
            self.current, self.previous = target, self.current
            self.count += 1

    @invariant()
    def agrees(self) -> None:
        pointer, moves = self.store.pointer(MODEL), self.store.moves(MODEL)
        assert (pointer.current if pointer else None) == self.current
        assert (pointer.previous if pointer else None) == self.previous
        assert len(moves) == self.count
        assert not moves or moves[-1].to_version == self.current


@both
def test_any_sequence_of_moves_follows_the_rules() -> None:
    some = settings(max_examples=10 if is_shared() else 30, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(PointerMachine, settings=some)


@both
def test_a_reader_is_never_held_up_by_a_writer(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    promote(tmp_path, "v0001", by="ana", reason="first")
    with raw(tmp_path / "serving.db") as execute:
        execute("BEGIN IMMEDIATE" if not is_shared() else "BEGIN")
        execute("UPDATE versions SET state = 'stopped'")
        began = time.monotonic()
        with PointerStore(tmp_path) as store:
            assert store.resolve(MODEL).state == "ready"
        assert time.monotonic() - began < 1.0
        execute("ROLLBACK")
