"""Moving production over HTTP: who may, what is refused, and that it is the command's own move."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.admission import AdmissionError, Candidate
from serving.api_keys import Grant, KeyStore
from serving.errors import without_places
from serving.gateway import GatewaySettings, create_app
from serving.health import free_port
from serving.pointer import PointerStore
from serving.versions import State
from tests.serving.as_replica import version_at
from tests.serving.serving_support import MODEL, Vouched, bearer, unasked
from tests.serving.warm_replica import warm_replica

BY_HAND = {"model": MODEL, "reason": "worse answers"}


class Refusing(Vouched):
    """Admits all but one version."""

    def to_move(self, candidate: Candidate) -> None:
        if candidate.version == f"{MODEL}-v0001":
            raise AdmissionError(f"{candidate.version} is not served: its key was revoked.")


@pytest.fixture(scope="module")
def replica() -> Iterator[str]:
    with warm_replica() as one:
        yield one.url


def put(store: PointerStore, number: int, replica: str, state: State = "ready") -> None:
    full = f"{MODEL}-v{number:04d}"
    store.record_version(version_at(replica, MODEL, full, "served", state=state))


@pytest.fixture
def home(tmp_path: Path, replica: str) -> Path:
    with PointerStore(tmp_path) as store:
        for number in (1, 2):
            put(store, number, replica)
            store.promote(MODEL, f"v000{number}", by="t", reason="r", admit=unasked)
        put(store, 3, replica)
    return tmp_path


def key_of(home: Path, **grant: Any) -> dict[str, str]:
    with KeyStore(home) as store:
        return bearer(store.new(Grant("ana", **grant), by="t").text)


def client_of(
    home: Path, monkeypatch: pytest.MonkeyPatch, admission: Vouched | None = None
) -> TestClient:
    monkeypatch.setattr("serving.gateway.StoreAdmission", lambda _: admission or Vouched())
    return TestClient(
        create_app(GatewaySettings(home)),
        headers=key_of(home, admin=True),
        raise_server_exceptions=False,
    )


@pytest.fixture
def client(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    with client_of(home, monkeypatch) as one:
        yield one


def current(home: Path) -> str:
    with PointerStore(home) as store:
        return store.resolve(MODEL).version


def test_a_rollback_and_the_way_forth_again(client: TestClient, home: Path) -> None:
    back = client.post("/admin/rollback", json=BY_HAND)
    assert back.status_code == 200, back.text
    made = back.json()
    assert made["by"].startswith("ana (API key ")
    assert made | {"at": "", "seconds": 0, "by": ""} == {
        "number": 3, "model": MODEL, "kind": "rollback", "from_version": f"{MODEL}-v0002",
        "to_version": f"{MODEL}-v0001", "by": "", "reason": "worse answers", "at": "",
        "seconds": 0,
    }  # fmt: skip
    assert current(home) == f"{MODEL}-v0001"
    forth = client.post("/admin/promote", json={**BY_HAND, "version": "v0002"})
    assert (forth.json()["kind"], current(home)) == ("promote", f"{MODEL}-v0002")
    named = client.post("/admin/rollback", json={**BY_HAND, "to": "v0001"})
    assert (named.status_code, current(home)) == (200, f"{MODEL}-v0001")


@pytest.mark.parametrize("path", ["/admin/rollback", "/admin/promote"])
def test_who_is_no_admin_moves_nothing(client: TestClient, home: Path, path: str) -> None:
    body = {**BY_HAND, "version": "v0001"}
    answer = client.post(path, json=body, headers=key_of(home))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_admin")
    answer = client.post(path, json=body, headers=key_of(home, admin=True, models=("other",)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    assert client.post(path, json=body, headers=bearer("ftdm_0_0")).status_code == 401
    assert client.get(path).status_code in (404, 405)
    assert current(home) == f"{MODEL}-v0002"


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("rollback", {"model": MODEL}, 400, "`reason` must be"),
        ("rollback", {"model": MODEL, "reason": " "}, 400, "`reason` must be"),
        ("rollback", [], 400, "JSON object"),
        ("rollback", {**BY_HAND, "model": "other"}, 404, "No model 'other'"),
        ("rollback", {**BY_HAND, "to": "7"}, 400, "is no version of"),
        ("rollback", {**BY_HAND, "to": "v0002"}, 409, "in production already"),
        ("rollback", {**BY_HAND, "reason": "x" * 20_000}, 413, "larger than"),
        ("promote", BY_HAND, 400, "`version` must be"),
        ("promote", {**BY_HAND, "version": "v0003"}, 409, "was never in production"),
    ],
)
def test_what_is_refused(
    client: TestClient, home: Path, path: str, body: Any, status: int, told: str
) -> None:
    answer = client.post(f"/admin/{path}", json=body)
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]
    assert current(home) == f"{MODEL}-v0002"


def test_a_version_that_is_not_admitted_or_not_warm_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(home, monkeypatch, Refusing()) as client:
        for path, more in (("rollback", {}), ("promote", {"version": "v0001"})):
            answer = client.post(f"/admin/{path}", json=BY_HAND | more)
            assert answer.status_code == 409
            assert answer.json()["error"]["code"] == "not_admitted"
            assert "its key was revoked" in answer.json()["error"]["message"]
    with PointerStore(home) as store:
        put(store, 1, f"http://127.0.0.1:{free_port()}")
    with client_of(home, monkeypatch) as client:
        answer = client.post("/admin/promote", json=BY_HAND | {"version": "v0001"})
        assert answer.json()["error"]["code"] == "not_moved"
    assert current(home) == f"{MODEL}-v0002"


def test_the_gateway_asks_the_store_of_its_home_and_tells_callers_no_path(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(GatewaySettings(home))
    with TestClient(app, headers=key_of(home, admin=True)) as client:
        answer = client.post("/admin/rollback", json=BY_HAND)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "not_admitted")
    version = f"{MODEL}-v0001"
    assert error["message"].startswith(f"{version} is not served: no manifest in … registers")
    assert f"`ftdm verify {version}` names all that differs" in error["message"]
    assert error["message"].endswith("the gateway's log names it.)")
    assert str(home) not in answer.text
    assert f"{version} is not served: no manifest in {home / 'store'} registers" in caplog.text


def test_who_is_not_warm_is_named_without_its_address(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with PointerStore(home) as store:
        put(store, 1, address)
    with client_of(home, monkeypatch) as client:
        answer = client.post("/admin/promote", json=BY_HAND | {"version": "v0001"})
    message = answer.json()["error"]["message"]
    assert message.startswith(f"No replica of {MODEL}-v0001 answers (…): start it again (`ftdm up`")
    assert address not in answer.text
    assert address in caplog.text


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("v1 is not ready: start it", ""),
        ("its weights m/model differ 5/6: config.json, 3 / 4; see `ftdm verify v1`", ""),
        ("no manifest in /h o/me/store registers v1", "no manifest in … registers v1"),
        ("/h o/me: gone", "…: gone"),
        ("there is no folder /srv/a-b/c_d.e.", "there is no folder …."),
        (
            "it failed ([Errno 2] No such file: '/srv/a b/c')",
            "it failed ([Errno 2] No such file: …)",
        ),
        ("see (/var/log/x.log); FTDM=/a/b, ~/c ../d ./e", "see (…); FTDM=…, … … …"),
        ("http://127.0.0.1:80/v1 and postgresql://u@h/d; wait", "… and …; wait"),
        ('its log:\nFile "/x y/z.py", line 1\nraised /é/ü:3', "its log:\nFile …, line 1\nraised …"),
    ],
)
def test_places_of_the_machine_are_not_for_callers(message: str, told: str) -> None:
    end = " (…: the gateway's log names it.)"
    assert without_places(message, Path("/h o/me")) == (told + end if told else message)
