import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from serving import deployment, stack
from serving.deployment import retire_others, stop_version
from serving.health import answering, serves
from serving.home import Home
from serving.platform import DeploymentError, VersionSpec
from serving.supervised import split_cores
from serving.versions import CacheTerms, PointerError
from tests.serving.serving_support import (
    MODEL,
    VOUCHED,
    Running,
    digest_of,
    fake_engine,
    promote,
    rollback,
)

start_version = partial(deployment.start_version, admission=VOUCHED)


def arguments(running: Running, version: str, text: str) -> None:
    (running.spec(version).folder / "arguments").write_text(text, encoding="utf-8")


def test_a_version_is_ready_when_all_of_it_answers(running: Running) -> None:
    said: list[str] = []
    done = start_version(
        running.home, running.spec("v0001"), timeout_s=30, progress=said.append, engine=fake_engine
    )
    version = done.version
    assert version.state == "ready"
    assert version.served_name == f"{MODEL}@v0001-{version.digest[:12]}"
    assert len(version.replicas) == 2
    assert all(serves(one.url, version.served_name) for one in version.replicas)
    assert answering(version) == 2
    assert any("is ready after" in line for line in said)
    with running.store() as store:
        assert store.version(MODEL, "v0001") == version


def test_starting_what_is_up_changes_nothing(running: Running) -> None:
    first = start_version(running.home, running.spec("v0001"), timeout_s=30, engine=fake_engine)
    pids = {name: one.pid for name, one in running.supervisor.statuses().items()}
    again = start_version(running.home, running.spec("v0001"), timeout_s=30, engine=fake_engine)
    assert (again.version, again.seconds) == (first.version, 0.0)
    assert {name: one.pid for name, one in running.supervisor.statuses().items()} == pids
    # Other terms of the result cache, and another form, are taken over, and no replica ends for it.
    form = {"choice": ["a"]}
    spec = replace(running.spec("v0001"), cache=CacheTerms(ttl_s=60), form=form)
    other = start_version(running.home, spec, timeout_s=30, engine=fake_engine)
    assert (other.version.cache.ttl_s, other.version.form, other.seconds) == (60, form, 0.0)
    assert {name: one.pid for name, one in running.supervisor.statuses().items()} == pids
    with running.store() as store:
        assert store.version(MODEL, "v0001").cache.ttl_s == 60
        assert store.version(MODEL, "v0001").form == form


def test_starting_again_waits_for_a_replica_on_its_way_back(running: Running) -> None:
    arguments(running, "v0001", "--startup-s 1.5")
    first = start_version(running.home, running.spec("v0001"), timeout_s=30, engine=fake_engine)
    names = [one.name for one in first.version.replicas]
    before = [running.pid(name) for name in names]
    os.kill(before[0], signal.SIGKILL)
    again = start_version(running.home, running.spec("v0001"), timeout_s=30, engine=fake_engine)
    assert again.version == first.version
    assert running.pid(names[1]) == before[1]
    assert running.pid(names[0]) != before[0]
    assert answering(first.version) == 2


def test_a_start_that_fails_stops_everything_and_shows_the_log(running: Running) -> None:
    arguments(running, "v0001", "--exit-code 3")
    before = set(running.supervisor.statuses())
    with pytest.raises(DeploymentError, match="told to fail") as caught:
        start_version(running.home, running.spec("v0001"), timeout_s=60, engine=fake_engine)
    assert f"{MODEL}-v0001 was not started" in str(caught.value)
    assert set(running.supervisor.statuses()) == before
    with running.store() as store:
        assert store.version(MODEL, "v0001").state == "failed"


def test_a_start_that_takes_too_long_is_ended(running: Running) -> None:
    arguments(running, "v0001", "--startup-s 30")
    before = set(running.supervisor.statuses())
    with pytest.raises(DeploymentError, match="did not answer in time"):
        start_version(running.home, running.spec("v0001"), timeout_s=1.5, engine=fake_engine)
    assert set(running.supervisor.statuses()) == before


def test_a_missing_model_folder_is_said_before_anything_starts(running: Running) -> None:
    before = set(running.supervisor.statuses())
    with pytest.raises(DeploymentError, match=r"holds no config\.json"):
        start_version(running.home, running.spec("v0001"), timeout_s=5)
    assert set(running.supervisor.statuses()) == before


def test_a_version_never_changes_its_digest(running: Running) -> None:
    running.start("v0001", replicas=1)
    other = replace(running.spec("v0001"), digest=digest_of("other"))
    with pytest.raises(PointerError, match="never changes"):
        start_version(running.home, other, replicas=1, timeout_s=10, engine=fake_engine)
    with running.store() as store:
        assert store.version(MODEL, "v0001").state == "ready"


def test_older_versions_are_retired_but_not_the_one_kept_warm(running: Running) -> None:
    for version in ("v0001", "v0002", "v0003"):
        running.put(version, replicas=1)
    with pytest.raises(DeploymentError, match="kept warm"):
        stop_version(running.home, MODEL, "v0002")
    assert retire_others(running.home, MODEL) == [f"{MODEL}-v0001"]
    assert retire_others(running.home, MODEL) == []
    assert not [name for name in running.supervisor.statuses() if "v0001" in name]
    with running.store() as store:
        assert store.version(MODEL, "v0001").state == "stopped"
    with pytest.raises(PointerError, match="is stopped, not ready"):
        rollback(running.home, MODEL, "v0001", by="t", reason="r")
    assert retire_others(running.home, "other_model") == []


def test_an_abandoned_start_is_retired_but_not_one_that_goes_on(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.start("v0002", replicas=1)
    with running.store() as store:
        store.set_state(MODEL, "v0002", "starting")
    with Home.at(running.home).lock(f"start-{MODEL}"):
        assert retire_others(running.home, MODEL) == []
    assert retire_others(running.home, MODEL) == [f"{MODEL}-v0002"]
    with running.store() as store:
        assert store.resolve(MODEL).state == "ready"


def test_a_candidate_that_never_reached_production_is_retired(running: Running) -> None:
    running.start("v0001", replicas=1)
    assert retire_others(running.home, MODEL) == [f"{MODEL}-v0001"]
    assert sorted(running.supervisor.statuses()) == ["cache", "gateway"]


def test_a_rollback_to_a_dead_version_is_refused(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.put("v0002", replicas=1)
    rollback(running.home, MODEL, by="t", reason="warm")
    running.supervisor.remove(f"{MODEL}-v0002-replica-0")
    with pytest.raises(PointerError, match="No replica of support_tickets-v0002 answers"):
        rollback(running.home, MODEL, by="t", reason="cold")


def test_two_models_live_side_by_side(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.put("v0001", replicas=1, model="orders")
    with running.store() as store:
        assert len({one.replicas[0].port for one in store.versions()}) == 2
        assert store.resolve("orders").model == "orders"


def test_resume_brings_back_production_and_names_what_it_cannot(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.put("v0002", replicas=1)
    stack.down(running.home, ports=running.ports)
    arguments(running, "v0001", "--exit-code 3")
    status = running.up()
    assert [one.current_healthy for one in status.models] == [1]
    assert not status.healthy
    assert any("v0001 was not started" in one for one in status.problems)
    (running.spec("v0001").folder / "arguments").unlink()
    assert running.up().healthy
    promote(running.home, MODEL, "v0001", by="t", reason="it is ready again")


@pytest.mark.parametrize(
    ("cores", "replicas", "shares"),
    [
        ({0, 1}, 2, [(0,), (1,)]),
        ({0, 1}, 3, [None, None, None]),
        ({2, 3, 5, 7, 8}, 2, [(2, 3), (5, 7)]),
        ({4}, 1, [(4,)]),
    ],
)
def test_replicas_get_cores_of_their_own_when_there_are_enough(
    monkeypatch: pytest.MonkeyPatch,
    cores: set[int],
    replicas: int,
    shares: list[tuple[int, ...] | None],
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    assert split_cores(replicas) == shares


def test_a_version_needs_a_replica(tmp_path: Path) -> None:
    spec = VersionSpec("m", "m-v0001", digest_of("m"), tmp_path, 8, "bfloat16")
    with pytest.raises(DeploymentError, match="at least one replica"):
        start_version(tmp_path, spec, replicas=0)
