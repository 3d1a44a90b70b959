"""A rollback drill: timed through a gateway, and production is never touched."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.admission import AdmissionError, Candidate
from serving.drill import Drill, DrillError, NothingToDrillError, drill
from serving.health import free_port
from serving.pointer import PointerStore
from serving.versions import PointerError
from tests.serving.as_replica import version_at
from tests.serving.databases import both
from tests.serving.serving_support import MODEL, VOUCHED, Vouched, unasked
from tests.serving.warm_replica import WarmReplica, warm_replica

FIRST, SECOND = f"{MODEL}-v0001", f"{MODEL}-v0002"
BODY = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


@pytest.fixture
def replica() -> Iterator[WarmReplica]:
    with warm_replica() as one:
        yield one


def put(home: Path, full: str, url: str) -> None:
    version = version_at(url, MODEL, full, f"served {full}")
    with PointerStore(home) as store:
        store.record_version(version)
        store.promote(MODEL, full, by="t", reason="r", admit=unasked)


def drilled(home: Path, timeout_s: float = 5.0) -> Drill:
    return drill(home, MODEL, BODY, admission=VOUCHED, timeout_s=timeout_s)


@both
def test_back_and_forth_are_timed_and_production_stays(
    tmp_path: Path, replica: WarmReplica
) -> None:
    put(tmp_path, FIRST, replica.url)
    put(tmp_path, SECOND, replica.url)
    with PointerStore(tmp_path) as store:
        before = store.pointer(MODEL), store.moves(MODEL), store.versions()
    replica.pause_s = 0.05
    # What a drill that was killed left behind is in nobody's way.
    (tmp_path / "run" / f"drill-{MODEL}").mkdir(parents=True)
    made = drilled(tmp_path)
    assert (made.back.to_version, made.forth.to_version) == (FIRST, SECOND)
    assert [one["model"] for one in replica.asked] == [f"served {FIRST}", f"served {SECOND}"]
    for leg in (made.back, made.forth):
        assert 0 < leg.moved_s < leg.answered_s - 0.05
    assert made.seconds == max(made.back.answered_s, made.forth.answered_s) < 10
    with PointerStore(tmp_path) as store:
        assert (store.pointer(MODEL), store.moves(MODEL), store.versions()) == before
    assert not (tmp_path / "run" / f"drill-{MODEL}").exists()


@both
def test_without_a_previous_version_there_is_nothing_to_drill(
    tmp_path: Path, replica: WarmReplica
) -> None:
    with pytest.raises(NothingToDrillError, match="no previous version yet"):
        drilled(tmp_path)
    put(tmp_path, FIRST, replica.url)
    with pytest.raises(NothingToDrillError, match="no previous version yet"):
        drilled(tmp_path)
    assert replica.asked == []


def test_a_previous_version_that_is_not_warm_is_said(tmp_path: Path, replica: WarmReplica) -> None:
    put(tmp_path, FIRST, f"http://127.0.0.1:{free_port()}")
    put(tmp_path, SECOND, replica.url)
    with pytest.raises(PointerError, match=f"No replica of {FIRST} answers"):
        drilled(tmp_path)


def test_a_version_that_does_not_answer_is_said(tmp_path: Path, replica: WarmReplica) -> None:
    put(tmp_path, FIRST, replica.url)
    put(tmp_path, SECOND, replica.url)
    replica.status = 400
    with pytest.raises(DrillError, match="was answered with 400"):
        drilled(tmp_path)
    replica.pause_s = 1.0
    with pytest.raises(DrillError, match="No answer to the drill within 0 s"):
        drilled(tmp_path, timeout_s=0.2)


def test_a_version_that_is_not_admitted_is_said(tmp_path: Path, replica: WarmReplica) -> None:
    put(tmp_path, FIRST, replica.url)
    put(tmp_path, SECOND, replica.url)

    class Refusing(Vouched):
        def to_move(self, candidate: Candidate) -> None:
            raise AdmissionError(f"{candidate.version} is not served: its key was revoked.")

    with pytest.raises(AdmissionError, match="its key was revoked"):
        drill(tmp_path, MODEL, BODY, admission=Refusing())
