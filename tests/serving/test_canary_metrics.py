"""What the metrics say of the canary, from the store of a home alone."""

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ftdm_assets.provenance.lineage import CANARY, CANARY_CHECK
from ftdm_assets.provenance.store import ArtifactStore, store_folder
from serving.canary_metrics import CanaryCollector
from serving.pointer import PointerStore
from tests.provenance.samples import manifest, verdict
from tests.serving.as_replica import version_at
from tests.serving.serving_support import MODEL, unasked

V1, V2 = f"{MODEL}-v0001", f"{MODEL}-v0002"
# 2026-11-24T00:00Z.
SECONDS = 1_795_478_400.0


def put_canary(
    home: Path, version: str, accuracy: float, finished_at: str = "2026-11-24T00:00:00+00:00"
) -> str:
    """Store a canary's manifest as the graph does, and return the artifact's digest."""
    store = ArtifactStore(store_folder(home))
    digest = store.put_document("canary", {"version": version, "asked_at": finished_at}).digest
    facts = {"version": version, "accuracy": accuracy, "correct": 1, "examples": 1}
    made = manifest(CANARY, digest, kind="canary", facts=facts, finished_at=finished_at)
    store.add_manifest(replace(made, model=MODEL))
    return digest


def judge(home: Path, digest: str, drop: float, passed: bool, hour: int = 1) -> None:
    judged_at = f"2026-11-24T{hour:02}:00:00.000000+00:00"
    made = verdict(CANARY, digest, check=CANARY_CHECK, passed=passed, judged_at=judged_at)
    other = replace(made, check="latency", passed=not passed, model=MODEL)
    store = ArtifactStore(store_folder(home))
    store.add_verdict(replace(made, model=MODEL, measured={"drop_points": drop}))
    store.add_verdict(other)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with PointerStore(tmp_path) as store:
        for version in (V1, V2):
            store.record_version(version_at("http://127.0.0.1:9", MODEL, version, "served"))
            store.promote(MODEL, version, by="t", reason="r", admit=unasked)
    return tmp_path


class Scraped:
    """One collector, as Prometheus reads it."""

    def __init__(self, home: Path) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(CanaryCollector(home))

    def values(self) -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(generate_latest(self._registry).decode())
        samples = [one for family in families for one in family.samples]
        assert {one.labels["model"] for one in samples} <= {MODEL}
        return {
            (one.name.removeprefix("ftdm_canary_"), one.labels["version"]): one.value
            for one in samples
        }


def test_the_newest_canary_is_shown_with_its_verdict_as_soon_as_there_is_one(home: Path) -> None:
    scraped = Scraped(home)
    assert scraped.values() == {}
    digest = put_canary(home, V1, 0.9)
    shown = {("time_seconds", V1): SECONDS, ("accuracy", V1): 0.9}
    assert scraped.values() == shown
    judge(home, digest, 5.5, False)
    assert scraped.values() == {**shown, ("drop_points", V1): 5.5, ("passed", V1): 0}
    # Judged anew, under another limit.
    judge(home, digest, 5.5, True, hour=2)
    assert scraped.values()["passed", V1] == 1
    judge(home, put_canary(home, V2, 0.95, "2026-12-01T00:00:00+00:00"), -1.0, True)
    put_canary(home, V1, 0.5, "2026-11-17T00:00:00+00:00")
    week = 7 * 86_400
    assert scraped.values() == {
        ("time_seconds", V2): SECONDS + week,
        ("accuracy", V2): 0.95,
        ("drop_points", V2): -1.0,
        ("passed", V2): 1,
    }


def test_a_canary_that_another_version_answered_has_failed_and_shows_no_drop(home: Path) -> None:
    digest = put_canary(home, V2, 0.9)
    made = verdict(CANARY, digest, check=CANARY_CHECK, passed=False)
    ArtifactStore(store_folder(home)).add_verdict(replace(made, model=MODEL, measured={}))
    values = Scraped(home).values()
    assert values["passed", V2] == 0
    assert ("drop_points", V2) not in values


@pytest.mark.parametrize("what", ["manifests", "verdicts"])
def test_what_was_changed_in_the_store_is_not_shown_and_stops_no_scrape(
    home: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    judge(home, put_canary(home, V2, 0.9), 9.5, False)
    for path in (store_folder(home) / what).rglob("*.json"):
        path.write_bytes(path.read_bytes().replace(b"0.9", b"0.99").replace(b"9.5", b"0.5"))
    assert Scraped(home).values() == {}
    assert f"The canary of {MODEL} cannot be read" in caplog.text
