"""The receiver of webhooks: who may call it, and that the sensor then asks at once."""

import json
import time

import pytest
from starlette.testclient import TestClient

from ftdm_assets.graph.sources import POLL_SECONDS, is_due
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources import label_webhook

SECRET = "a-long-random-text"
HEADER = label_webhook.SECRET_HEADER.encode()
PATH = "/label-studio/support_tickets"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv(label_webhook.SECRET_ENV, SECRET)
    return TestClient(label_webhook.app())


def test_a_call_with_the_secret_marks_the_model(client: TestClient) -> None:
    assert label_webhook.mark_of("support_tickets") == 0
    head = {label_webhook.SECRET_HEADER: SECRET}
    before = time.time()
    assert client.post(PATH, json={"action": "ANNOTATION_CREATED"}, headers=head).status_code == 202
    assert before <= label_webhook.mark_of("support_tickets") <= time.time()


@pytest.mark.parametrize("given", ["", "wrong", SECRET + "x", "\u00e4"])
def test_a_wrong_secret_marks_nothing(client: TestClient, given: str) -> None:
    answer = client.post(PATH, headers={HEADER: given.encode("latin-1")})
    assert (answer.status_code, SECRET in answer.text) == (401, False)
    assert client.post(PATH).status_code == 401
    assert label_webhook.mark_of("support_tickets") == 0


def test_other_paths_and_models_are_not_there(client: TestClient) -> None:
    head = {label_webhook.SECRET_HEADER: SECRET}
    for path in ("/label-studio/nobody", "/label-studio/..%2fstore", "/", "/label-studio/a/b"):
        assert client.post(path, headers=head).status_code == 404
    assert client.get(PATH, headers=head).status_code == 405


def test_without_a_secret_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(label_webhook.SECRET_ENV, raising=False)
    with pytest.raises(SettingsError, match="FTDM_LABEL_WEBHOOK_SECRET is not set"):
        label_webhook.secret()


def test_the_sensor_asks_after_half_a_minute_or_a_webhook() -> None:
    cursor = json.dumps({"asked": 1000.0, "mark": 5.0})
    assert not is_due(cursor, 1004.0, 5.0)
    assert is_due(cursor, 1004.0, 6.0)
    assert is_due(cursor, 1000.0 + POLL_SECONDS, 5.0)
    assert all(is_due(odd, 1004.0, 5.0) for odd in (None, "", "{", "[]", "{}"))
