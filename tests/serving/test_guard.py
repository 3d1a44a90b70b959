"""The gateway's guard: nothing but /health without a key, and a key does only what it may."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving import api_keys
from serving.api_keys import Grant, KeyStore, NewKey
from serving.gateway import GatewaySettings, create_app
from serving.health import free_port
from serving.pointer import PointerStore
from tests.serving.as_replica import version_at
from tests.serving.serving_support import bearer, unasked
from tests.serving.test_gateway import CHAT, error_of

MODELS = ("tickets", "orders")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A gateway with two models in production, behind which nobody answers."""
    with PointerStore(tmp_path) as store:
        for model in MODELS:
            url, full = f"http://127.0.0.1:{free_port()}", f"{model}-v0001"
            version = version_at(url, model, full, model)
            store.record_version(version)
            store.promote(model, "v0001", by="t", reason="r", admit=unasked)
    settings = GatewaySettings(tmp_path, retry_for_s=0.0)
    with TestClient(create_app(settings), raise_server_exceptions=False) as one:
        yield one


def made(home: Path, **grant: object) -> NewKey:
    with KeyStore(home) as store:
        return store.new(Grant("somebody", **grant), by="t")  # type: ignore[arg-type]


def ask(client: TestClient, key: str, model: str = "tickets") -> int:
    return client.post(CHAT, json={"model": model}, headers=bearer(key)).status_code


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer  ", "Basic abc", "Bearer ftdm_00_11", "é"]
)
def test_nothing_but_health_without_a_key(client: TestClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode()}
    for path in (CHAT, "/v1/completions", "/v1/models", "/v1/models/x", "/no", "/", "/health/x"):
        for method in ("GET", "POST"):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert error_of(answer)["code"] == "invalid_api_key"
    assert client.get("/health").status_code == 200


def test_a_wrong_secret_is_refused_and_not_repeated(client: TestClient, tmp_path: Path) -> None:
    key = made(tmp_path)
    wrong = key.text[:-4] + "beef"
    answer = client.get("/v1/models", headers=bearer(wrong))
    assert answer.status_code == 401
    assert wrong not in answer.text
    assert "revoked" not in answer.text


def test_an_expired_key(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3)
    monkeypatch.setattr(api_keys, "_now", lambda: long_ago)
    key = made(tmp_path, days=2)
    answer = client.get("/v1/models", headers=bearer(key.text))
    assert answer.status_code == 401
    assert "is expired" in error_of(answer)["message"]


def test_a_revoked_key_counts_no_more_at_once(client: TestClient, tmp_path: Path) -> None:
    key = made(tmp_path)
    assert ask(client, key.text) == 503
    with KeyStore(tmp_path) as store:
        store.revoke(key.key.key_id, by="t")
    revoked = time.monotonic()
    answer = client.get("/v1/models", headers=bearer(key.text))
    assert answer.status_code == 401
    assert "is revoked" in error_of(answer)["message"]
    assert time.monotonic() - revoked < 2


def test_a_key_is_for_its_models_only(client: TestClient, tmp_path: Path) -> None:
    key = made(tmp_path, models=("tickets",)).text
    assert ask(client, key, "tickets") == ask(client, key, "tickets@v0001") == 503
    answers = [
        client.post(CHAT, json={"model": model}, headers=bearer(key))
        for model in ("orders", "orders@v0001", "unknown", "")
    ]
    assert [one.status_code for one in answers] == [403] * 4
    assert {error_of(one)["code"] for one in answers} == {"model_not_allowed"}
    assert client.get("/v1/models/orders", headers=bearer(key)).status_code == 403
    listed = client.get("/v1/models", headers=bearer(key)).json()["data"]
    assert {one["id"] for one in listed} == {"tickets", "tickets@v0001"}
    every = client.get("/v1/models", headers=bearer(made(tmp_path).text)).json()["data"]
    assert {one["id"].partition("@")[0] for one in every} == set(MODELS)


def test_a_key_that_asks_too_often(client: TestClient, tmp_path: Path) -> None:
    key, other = made(tmp_path, per_minute=3).text, made(tmp_path, per_minute=3).text
    answers = [client.get("/v1/models", headers=bearer(key)) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert error_of(answers[-1])["code"] == "rate_limit_exceeded"
    assert client.get("/v1/models", headers=bearer(other)).status_code == 200
