"""Rollback to what is not warm: it is started first, and production serves on meanwhile."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ftdm_assets.commands import rollback as command
from serving import cold, deployment, names
from serving.admin_cold import ColdRollbacks
from serving.admission import Admission, AdmissionError, Candidate
from serving.api_keys import Grant, KeyStore
from serving.cold import ColdStartError
from serving.deployment import retire_others
from serving.errors import ApiError
from serving.gateway import GatewaySettings, create_app
from serving.health import answering, answers_chat, free_port
from serving.platform import VersionSpec
from serving.stack_programs import Ports
from serving.supervised import Supervised
from serving.versions import Move, PointerError, Version
from tests.serving.as_replica import version_at
from tests.serving.serving_support import (
    MODEL,
    VOUCHED,
    Running,
    Vouched,
    bearer,
    fake_engine,
    promote,
    unasked,
    under_load,
)
from tests.serving.warm_replica import warm_replica

V1, V2, V3 = (f"{MODEL}-v000{number}" for number in (1, 2, 3))


@pytest.fixture(autouse=True)
def _fake_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "serving.cold.start_version", partial(deployment.start_version, engine=fake_engine)
    )
    # Where the command starts a version: this machine, says the model's defs.yaml.
    local = partial(Supervised, engine=fake_engine)
    monkeypatch.setattr("ftdm_assets.graph.production.Supervised", local)


@pytest.fixture
def third(tmp_path: Path) -> Iterator[Running]:
    """Version 3 is current, version 2 is warm, version 1 is recorded and stopped.

    Nothing is supervised yet: a replica in this process stands in for those that are up.
    """
    one = Running(tmp_path / "home", Ports())
    with warm_replica() as replica:
        with one.store() as store:
            for version in ("v0001", "v0002", "v0003"):
                store.record_version(recorded(one.spec(version), replica.url))
                store.promote(MODEL, version, by="t", reason="r", admit=unasked)
            store.set_state(MODEL, "v0001", "stopped")
        try:
            yield one
        finally:
            one.supervisor.shutdown(timeout_s=0.5)


def recorded(spec: VersionSpec, url: str) -> Version:
    name = names.served_name(spec.model, spec.version, spec.digest)
    made = version_at(url, spec.model, spec.version, name, folder=spec.folder)
    one = replace(made.replicas[0], name=f"{spec.version}-replica-0", port=1)
    return replace(made, digest=spec.digest, replicas=(one,))


def rollback(running: Running, to: str | None = None, **more: Any) -> cold.RolledBack:
    given = {"admission": VOUCHED, **more}
    return cold.rollback(running.home, MODEL, to, by="ana", reason="night", **given)


def arguments(running: Running, version: str, text: str) -> None:
    (running.spec(version).folder / "arguments").write_text(text, encoding="utf-8")


def pointer(running: Running) -> tuple[str, str | None]:
    with running.store() as store:
        found = store.pointer(MODEL)
    assert found is not None
    return found.current, found.previous


def version_of(running: Running, version: str) -> Version:
    with running.store() as store:
        return store.version(MODEL, version)


@pytest.mark.alone
def test_a_stopped_version_is_started_while_production_serves(running: Running) -> None:
    for version in ("v0001", "v0002", "v0003"):
        running.put(version, replicas=1)
    assert retire_others(running.home, MODEL) == [V1]
    arguments(running, "v0001", "--startup-s 1")
    said: list[str] = []
    with under_load(running, count=2) as load:
        made = rollback(running, "v0001", progress=said.append)
        time.sleep(0.3)
    assert load.failures() == []
    assert load.versions() == {V3, V1}
    assert (made.move.kind, made.move.by, made.move.reason) == ("rollback", "ana", "night")
    assert made.seconds > 1
    assert pointer(running) == (V1, V3)
    assert said[0] == f"{V1} is not warm: it is started first, production is {V3} meanwhile"
    assert f"each replica of {V1} has answered" in said
    moved = said.index(f"production is {V1} again, it was {V3} ({made.seconds:.2f} s)")
    # What is neither current nor previous any more gives its memory back, after the move.
    assert said[moved + 1 :] == [f"{V2} is stopped"]
    assert not [name for name in running.supervisor.statuses() if name.startswith(V2)]
    assert rollback(running).seconds < 1


def test_a_previous_version_that_died_is_started_again(third: Running) -> None:
    with third.store() as store:
        died = recorded(third.spec("v0002"), f"http://127.0.0.1:{free_port()}")
        store.record_version(replace(died, replicas=died.replicas * 2))
    assert rollback(third).move.to_version == V2
    version = version_of(third, "v0002")
    assert answering(version) == len(version.replicas) == 2
    assert pointer(third) == (V2, V3)


def test_what_does_not_start_leaves_production_as_it_was(third: Running) -> None:
    arguments(third, "v0001", "--exit-code 3")
    before = pointer(third), set(third.supervisor.statuses())
    with pytest.raises(ColdStartError, match="told to fail") as caught:
        rollback(third, "v0001")
    assert str(caught.value).startswith(f"production is {V3} as before: {V1} was not started")
    assert (pointer(third), set(third.supervisor.statuses())) == before
    assert version_of(third, "v0001").state == "failed"
    assert rollback(third).move.to_version == V2


def test_a_replica_that_completes_nothing_is_no_replica(
    third: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.cold.answers_chat", lambda *_: False)
    before = pointer(third), set(third.supervisor.statuses())
    with pytest.raises(ColdStartError, match="is up, but completes no request on http"):
        rollback(third, "v0001")
    assert (pointer(third), set(third.supervisor.statuses())) == before


def test_a_first_answer_names_the_version(running: Running) -> None:
    running.start("v0001", replicas=1)
    version = version_of(running, "v0001")
    url = version.replicas[0].url
    assert answers_chat(url, version.served_name)
    assert not answers_chat(url, "another")
    with warm_replica() as replica:
        replica.status = 500
        assert not answers_chat(replica.url, "served")
    assert not answers_chat(replica.url, "served")


def test_only_what_was_in_production_is_gone_back_to(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.start("v0002", replicas=1)
    for version in ("v0002", "v0007"):
        with pytest.raises(PointerError, match="was never in production"):
            rollback(running, version)
    assert pointer(running) == (V1, None)


class Refusing(Vouched):
    """Admits no start."""

    def to_start(self, candidate: Candidate) -> None:
        raise AdmissionError(f"{candidate.version} is not served: its key was revoked.")


def test_a_version_that_is_not_admitted_is_not_started(third: Running) -> None:
    before = pointer(third), set(third.supervisor.statuses())
    with pytest.raises(AdmissionError, match="its key was revoked"):
        rollback(third, "v0001", admission=Refusing())
    assert (pointer(third), set(third.supervisor.statuses())) == before


def test_a_rollback_that_was_overtaken_is_refused(third: Running) -> None:
    def overtake(said: str) -> None:
        if said.startswith("each replica"):
            promote(third.home, MODEL, "v0002", by="bob", reason="meanwhile")

    with pytest.raises(PointerError, match=f"production moved to {V2}; look at it"):
        rollback(third, "v0001", progress=overtake)
    assert pointer(third) == (V2, V3)
    assert version_of(third, "v0001").state == "stopped"


def test_the_command_starts_it_too(
    third: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Move] = []
    monkeypatch.setenv("FTDM_HOME", str(third.home))
    monkeypatch.setattr(command, "StoreAdmission", lambda _: VOUCHED)
    monkeypatch.setattr(command, "_record", told.append)
    assert command.rollback(None, "v0001", "night", as_json=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["to_version"] == told[0].to_version == V1
    assert f"{V1} is not warm: it is started first" in err
    assert command.rollback(MODEL, None, "again", as_json=False) == 0
    assert f"production is {V3} again, it was {V1}" in capsys.readouterr().out


@contextmanager
def admin(home: Path, admission: Admission = VOUCHED) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.gateway.StoreAdmission", lambda _: admission)
        with TestClient(create_app(GatewaySettings(home)), headers=key(home)) as client:
            yield client


def key(home: Path, admin: bool = True) -> dict[str, str]:
    with KeyStore(home) as store:
        return bearer(store.new(Grant("ana", admin=admin), by="t").text)


def ended(client: TestClient, where: str) -> dict[str, Any]:
    return until(lambda: client.get(where).json(), lambda one: one["state"] != "under_way")


def until(
    look: Callable[[], dict[str, Any]], holds: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    end = time.monotonic() + 60
    while not holds(found := look()):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def test_over_http_a_cold_rollback_is_accepted_and_told_of(third: Running) -> None:
    arguments(third, "v0001", "--startup-s 1")
    asked = {"model": MODEL, "reason": "night", "to": "v0001"}
    with admin(third.home) as client:
        assert client.get("/admin/rollback", params={"model": MODEL}).status_code == 404
        accepted = client.post("/admin/rollback", json=asked)
        assert accepted.status_code == 202, accepted.text
        assert accepted.headers["retry-after"] == "2"
        where = accepted.headers["location"]
        assert (accepted.json()["state"], accepted.json()["status"]) == ("under_way", where)
        assert pointer(third) == (V3, V2)
        # Once more is the same one.
        assert client.post("/admin/rollback", json=asked).status_code == 202
        done = ended(client, where)
        stranger = client.get(where, headers=key(third.home, admin=False))
    assert (done["state"], done["to_version"], done["error"]) == ("done", V1, None)
    assert done["move"]["to_version"] == V1
    assert done["move"]["by"].startswith("ana (API key ")
    assert any("is ready after" in one for one in done["said"])
    assert pointer(third) == (V1, V3)
    with third.store() as store:
        assert [one.kind for one in store.moves(MODEL)].count("rollback") == 1
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (403, "not_admin")


def test_over_http_a_start_that_is_refused_is_told_of(third: Running) -> None:
    asked = {"model": MODEL, "reason": "night", "to": "v0001"}
    with admin(third.home, Refusing()) as client:
        where = client.post("/admin/rollback", json=asked).headers["location"]
        failed = ended(client, where)
        assert (failed["state"], failed["move"]) == ("failed", None)
        assert failed["error"]["code"] == "not_admitted"
        assert "its key was revoked" in failed["error"]["message"]
        assert pointer(third) == (V3, V2)
        # It is tried anew, and what is warm is moved to at once.
        assert client.post("/admin/rollback", json=asked).status_code == 202
        assert client.post("/admin/rollback", json={**asked, "to": None}).status_code == 200
    assert pointer(third) == (V2, V3)


def test_over_http_a_start_that_fails_is_told_of_without_the_machines_places(
    third: Running, caplog: pytest.LogCaptureFixture
) -> None:
    arguments(third, "v0001", "--exit-code 3")
    asked = {"model": MODEL, "reason": "night", "to": "v0001"}
    with admin(third.home) as client, caplog.at_level("INFO", "serving.admin"):
        where = client.post("/admin/rollback", json=asked).headers["location"]
        failed = ended(client, where)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "not_moved")
    message = failed["error"]["message"]
    assert message.startswith(f"production is {V3} as before: {V1} was not started: ")
    assert "told to fail" in message
    assert (
        failed["said"][0] == f"{V1} is not warm: it is started first, production is {V3} meanwhile"
    )
    assert str(third.home) not in json.dumps(failed)
    assert "http://" not in json.dumps(failed)
    # The whole is in the gateway's log.
    assert failed["said"][0] in caplog.text
    assert f"Production was not moved: production is {V3} as before" in caplog.text
    assert pointer(third) == (V3, V2)


def test_one_cold_rollback_of_a_model_at_a_time() -> None:
    gate, begun = threading.Event(), ColdRollbacks()

    def made(_: object) -> Move:
        gate.wait(30)
        raise KeyboardInterrupt

    first = begun.begin(MODEL, V1, made)
    assert begun.begin(MODEL, V1, made) is first
    with pytest.raises(ApiError, match=f"to {V1} is under way"):
        begun.begin(MODEL, V2, made)
    gate.set()
    failed = until(lambda: begun.of(MODEL).document(), lambda one: one["state"] == "failed")
    assert failed["error"]["code"] == "internal"
