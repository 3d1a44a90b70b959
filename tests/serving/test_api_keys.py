"""API keys: what is kept of them, what they allow, and that they only ever end."""

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ftdm_assets.cli import app
from ftdm_assets.commands.errors import exit_code
from serving import api_keys
from serving.api_keys import ApiKeyError, Grant, KeyStore, key_id_of
from serving.database import Refusal
from serving.local_key import local_key
from serving.names import InvalidNameError
from serving.rate_limit import RateLimits
from serving.who_moves import who_moves
from tests.serving.databases import REFUSED, both, raw


@both
def test_a_key_is_found_by_its_text_and_only_by_it(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        made = store.new(Grant("billing", models=("tickets",), per_minute=7, days=2), by="jane")
        other = store.new(Grant("other"), by="jane")
        found = store.find(made.text)
        assert found == made.key
        assert (found.name, found.models, found.per_minute) == ("billing", ("tickets",), 7)
        forged = made.text[:-1] + ("0" if made.text[-1] != "0" else "1")
        swapped = f"ftdm_{other.key.key_id}_{made.text.rsplit('_', 1)[1]}"
        for wrong in (forged, swapped, made.text + "0", made.key.key_id, "", "ftdm__", "é"):
            assert store.find(wrong) is None


@both
def test_no_secret_is_kept_or_shown(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        made = store.new(Grant("billing"), by="jane")
        secret = made.text.rsplit("_", 1)[1]
        assert secret not in repr(made) + repr(store.keys())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


@both
def test_a_key_expires_and_is_revoked(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with KeyStore(tmp_path) as store:
        key = store.new(Grant("a", days=1), by="jane").key
        assert key.state(now) == "valid"
        assert key.state(now + timedelta(days=1, seconds=1)) == "expired"
        revoked = store.revoke(key.key_id, by="john")
        assert (revoked.state(now), revoked.revoked_by) == ("revoked", "john")
        assert store.revoke(key.key_id, by="again") == revoked


@pytest.mark.parametrize("overlap", [0, 5])
@both
def test_a_rotated_key_allows_the_same(tmp_path: Path, overlap: int) -> None:
    now = datetime.now(UTC)
    with KeyStore(tmp_path) as store:
        grant = Grant("billing", ("tickets",), admin=True, per_minute=3, days=9)
        old = store.new(grant, by="jane").key
        new = store.rotate(old.key_id, by="john", overlap=timedelta(minutes=overlap)).key
        assert new.replaces == old.key_id
        assert (new.name, new.models, new.admin, new.per_minute) == (
            *(old.name, old.models, old.admin, old.per_minute),
        )
        assert str(new.expires_at) >= str(old.expires_at)
        before = store.keys()[0] if store.keys()[0].key_id == old.key_id else store.keys()[1]
        assert before.state(now) == ("valid" if overlap else "revoked")
        assert before.state(now + timedelta(minutes=6)) == ("expired" if overlap else "revoked")
        if not overlap:
            with pytest.raises(ApiKeyError, match="is revoked: make a new one"):
                store.rotate(old.key_id, by="john")


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM api_keys",
        "UPDATE api_keys SET revoked_at = NULL",
        "UPDATE api_keys SET revoked_at = '2026'",
        "UPDATE api_keys SET revoked_by = 'somebody else'",
        "UPDATE api_keys SET key_id = 'another'",
        "UPDATE api_keys SET digest = 'another'",
        "UPDATE api_keys SET name = 'another'",
        "UPDATE api_keys SET admin = 1",
        "UPDATE api_keys SET models = '[\"*\"]'",
        "UPDATE api_keys SET expires_at = '9999'",
        "UPDATE api_keys SET expires_at = NULL",
        "UPDATE api_keys SET per_minute = NULL",
        "UPDATE api_keys SET created_at = '2020-01-01T00:00:00.000+00:00'",
        "UPDATE api_keys SET created_by = 'another'",
        "UPDATE api_keys SET replaces = NULL WHERE replaces IS NOT NULL",
        "UPDATE api_keys SET replaces = key_id WHERE replaces IS NULL",
    ],
)
@both
def test_a_key_can_only_be_ended(tmp_path: Path, change: str) -> None:
    with KeyStore(tmp_path) as store:
        grant = Grant("a", ("tickets",), per_minute=1, days=1)
        store.rotate(store.new(grant, by="jane").key.key_id, by="jane", overlap=timedelta(hours=1))
        if "revoked" in change:
            store.revoke(store.new(grant, by="jane").key.key_id, by="jane")
        before = store.keys()
        with raw(tmp_path / "serving.db") as execute, pytest.raises(REFUSED):
            execute(change)
        assert store.keys() == before


def test_a_key_keeps_its_id_in_sqlite(tmp_path: Path) -> None:
    with KeyStore(tmp_path) as store:
        key = store.new(Grant("a"), by="jane").key
        with raw(tmp_path / "serving.db") as execute, pytest.raises(REFUSED, match="only end"):
            execute("UPDATE api_keys SET key_id = NULL")
        assert store.keys() == [key]


@both
def test_a_database_whose_keys_were_guarded_less_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = (
        "OLD.revoked_at IS NOT NULL OR NEW.digest <> OLD.digest OR NEW.name <> OLD.name "
        "OR NEW.models <> OLD.models OR NEW.admin <> OLD.admin "
        "OR coalesce(NEW.per_minute, -1) <> coalesce(OLD.per_minute, -1) "
        "OR OLD.expires_at < coalesce(NEW.expires_at, '9999')"
    )
    deleted = api_keys._SCHEMA.refusals[0]
    refusals = (deleted, Refusal("api_keys_only_end", "api_keys", "UPDATE", "it only ends", less))
    with monkeypatch.context() as patched:
        patched.setattr(api_keys, "_SCHEMA", replace(api_keys._SCHEMA, refusals=refusals))
        with KeyStore(tmp_path) as store:
            key = store.new(Grant("a"), by="jane").key
    with raw(tmp_path / "serving.db") as execute:
        execute("UPDATE api_keys SET created_by = 'another'")
        # Whoever only reads it brings it up to date as well: a gateway.
        with KeyStore(tmp_path, watching=True) as store:
            store.find("ftdm_0_0")
        with pytest.raises(REFUSED, match="a key can only end"):
            execute("UPDATE api_keys SET created_by = 'jane'")
    with KeyStore(tmp_path) as store:
        (found,) = store.keys()
        assert found == replace(key, created_by="another")
        made = store.rotate(key.key_id, by="john").key
        assert store.revoke(made.key_id, by="john").revoked_by == "john"


@pytest.mark.parametrize(
    "grant", [Grant(" "), Grant("a", ()), Grant("a", per_minute=0), Grant("a", days=0)]
)
@both
def test_an_impossible_grant_is_refused(tmp_path: Path, grant: Grant) -> None:
    with KeyStore(tmp_path) as store, pytest.raises(ApiKeyError):
        store.new(grant, by="jane")
    with KeyStore(tmp_path) as store, pytest.raises(InvalidNameError):
        store.new(Grant("a", ("tickets@v0001",)), by="jane")


@both
def test_the_local_key_is_for_its_owner_and_made_anew_when_it_counts_no_more(
    tmp_path: Path,
) -> None:
    text = local_key(tmp_path)
    path = tmp_path / "local.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert local_key(tmp_path) == text
    with KeyStore(tmp_path) as store:
        key = store.find(text)
        assert key is not None
        assert not key.admin
        store.revoke(str(key_id_of(text)), by="jane")
    assert local_key(tmp_path) != text
    path.write_text("torn")
    assert len(local_key(tmp_path)) == len(text)


@both
def test_a_key_moves_production_only_if_it_is_an_admins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KeyStore(tmp_path) as store:
        plain, admin = (
            store.new(Grant("john"), by="t"),
            store.new(Grant("jane", admin=True), by="t"),
        )
    monkeypatch.delenv("FTDM_API_KEY", raising=False)
    assert who_moves(tmp_path, "root") == "root"
    monkeypatch.setenv("FTDM_API_KEY", admin.text)
    assert who_moves(tmp_path, "root") == f"jane (API key {admin.key.key_id}), root"
    monkeypatch.setenv("FTDM_API_KEY", plain.text)
    with pytest.raises(ApiKeyError, match="john may not move production"):
        who_moves(tmp_path, "root")
    with KeyStore(tmp_path) as store:
        store.revoke(admin.key.key_id, by="t")
    monkeypatch.setenv("FTDM_API_KEY", admin.text)
    with pytest.raises(ApiKeyError, match="does not count here"):
        who_moves(tmp_path, "root")


@both
def test_a_rollback_asks_who_moves_production(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path))
    with KeyStore(tmp_path) as store:
        monkeypatch.setenv("FTDM_API_KEY", store.new(Grant("john"), by="t").text)
    refused = CliRunner().invoke(app, ["rollback", "tickets"]).exception
    assert isinstance(refused, ApiKeyError)


def test_a_bucket_gives_its_minute_and_then_its_rate() -> None:
    seconds = 0.0
    limits = RateLimits(lambda: seconds)
    assert [limits.take("a", 6) for _ in range(7)] == [0] * 6 + [10]
    assert limits.take("b", 6) == 0
    seconds = 4.0
    assert limits.take("a", 6) == 6
    seconds = 10.0
    assert [limits.take("a", 6) for _ in range(2)] == [0, 10]
    seconds = 10_000.0
    assert [limits.take("a", 6) for _ in range(7)] == [0] * 6 + [10]
    assert {limits.take("c", None) for _ in range(1000)} == {0}


@both
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path))

    def ftdm(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["keys", *arguments])

    made = json.loads(ftdm("new", "billing", "--model", "tickets", "--json").stdout)
    rotated = ftdm("rotate", made["key_id"])
    listed = ftdm("list")
    for shown in (rotated.stderr, listed.output, ftdm("list", "--json").output):
        assert made["api_key"].rsplit("_", 1)[1] not in shown
        assert rotated.stdout.strip().rsplit("_", 1)[1] not in shown
    assert "revoked" in listed.output
    assert ftdm("local").stdout.strip() == local_key(tmp_path)
    unknown = ftdm("revoke", "none").exception
    assert isinstance(unknown, ApiKeyError)
    assert exit_code(unknown)[0] == 2
