"""No version is served whose evidence does not hold: at a start, at `up`, at every move."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ftdm_assets.provenance.trust import revoke_key, trust_key
from serving import moves
from serving.admission import AdmissionError, StoreAdmission
from serving.deployment import start_version
from serving.health import free_port
from serving.names import served_name
from serving.platform import VersionSpec
from serving.pointer import PointerStore
from serving.stack_programs import Ports
from serving.versions import Replica, Version
from tests.provenance.sealed import AT, SHORT, Sealed, sealed
from tests.serving.as_replica import version_at
from tests.serving.serving_support import Running, fake_engine, unasked
from tests.serving.warm_replica import warm_replica

FIRST, SECOND = "demo-v0001", "demo-v0002"


@dataclass(frozen=True)
class Place:
    """A home whose store holds two signed versions; the second is tampered with."""

    home: Path
    first: Sealed
    second: Sealed

    def spec(self, made: Sealed) -> VersionSpec:
        facts = made.root.manifest.facts
        digest = str(facts["merged_digest"])
        folder = made.store.find("model", digest).path
        return VersionSpec("demo", str(facts["version"]), digest, folder, 2048, "bfloat16")

    def flip_a_byte(self) -> None:
        path = self.spec(self.second).folder / "model.safetensors"
        content, times = bytearray(path.read_bytes()), path.stat()
        content[7] ^= 1
        path.write_bytes(bytes(content))
        # As somebody would who hides it: the size is the same, and the time of the last writing.
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def revoke(self) -> None:
        key = self.second.key.public.key_id
        revoke_key(self.home / "trust", key, by="jane", reason="lost laptop", at=AT)

    def delete_a_verdict(self) -> None:
        digest = next(n for n in self.second.nodes if n.asset == "merged_model").manifest.digest
        (path,) = (self.home / "store" / "verdicts" / "demo" / "merged_model" / digest).iterdir()
        path.unlink()

    def change_a_verdict(self) -> None:
        digest = next(n for n in self.second.nodes if n.asset == "merged_model").manifest.digest
        (path,) = (self.home / "store" / "verdicts" / "demo" / "merged_model" / digest).iterdir()
        path.write_bytes(path.read_bytes().replace(b"because", b"trust me"))

    def take_the_seal_away(self) -> None:
        folder = self.home / "store" / "seals" / "demo" / "registered_version"
        for path in (folder / self.second.root.manifest_digest).iterdir():
            path.unlink()

    def change_a_manifest(self) -> None:
        node = next(node for node in self.second.nodes if node.asset == "eval_scores")
        folder = self.home / "store" / "manifests" / "demo" / "eval_scores"
        path = folder / f"{node.manifest_digest}.json"
        path.write_bytes(path.read_bytes().replace(b'"correct": 36', b'"correct": 39'))

    def add_a_file(self) -> None:
        (self.spec(self.second).folder / "modeling.py").write_text("import os", encoding="utf-8")


TAMPERING = [
    (Place.flip_a_byte, "model.safetensors was changed"),
    (Place.add_a_file, "modeling.py was added"),
    (Place.revoke, r"was revoked \(lost laptop, by jane"),
    (Place.delete_a_verdict, r"the verdict of merged_model\.good on .* is not in the store"),
    (Place.change_a_verdict, "was changed: its content no longer has its name's digest"),
    (Place.take_the_seal_away, "is not signed"),
    (Place.change_a_manifest, "was changed"),
]
tampered = pytest.mark.parametrize(
    ("tamper", "told"), TAMPERING, ids=[one.__name__ for one, _ in TAMPERING]
)


def place_at(home: Path) -> Place:
    place = Place(home, sealed(home, SHORT, FIRST), sealed(home, SHORT, SECOND))
    for made in (place.first, place.second):
        trust_key(home / "trust", made.key.public)
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_at(tmp_path / "home")


@pytest.fixture(scope="module")
def replica() -> Iterator[str]:
    """The address of one that answers."""
    with warm_replica() as one:
        yield one.url


def warm(place: Place, made: Sealed, replica: str) -> Version:
    """Record a version as one that was admitted, started and answers."""
    spec = place.spec(made)
    StoreAdmission(place.home).to_start(spec)
    here = version_at(replica, spec.model, spec.version, "served", folder=spec.folder)
    version = replace(here, digest=spec.digest)
    with PointerStore(place.home) as store:
        return store.record_version(version)


def promote(place: Place, version: str) -> None:
    admission = StoreAdmission(place.home)
    moves.promote(place.home, "demo", version, by="ana", reason="r", admission=admission)


def test_what_verifies_is_admitted_and_moved_to(place: Place, replica: str) -> None:
    for made in (place.first, place.second):
        warm(place, made, replica)
    promote(place, FIRST)
    promote(place, SECOND)
    admission = StoreAdmission(place.home)
    move = moves.rollback(place.home, "demo", by="ana", reason="r", admission=admission)
    assert move.to_version == FIRST


@tampered
def test_a_start_is_refused_before_anything_runs(
    place: Place, tamper: Callable[[Place], None], told: str
) -> None:
    tamper(place)
    with pytest.raises(AdmissionError, match=told) as caught:
        start_version(
            place.home,
            place.spec(place.second),
            admission=StoreAdmission(place.home),
            engine=fake_engine,
        )
    assert str(caught.value).startswith(f"{SECOND} is not served: ")
    assert f"`ftdm verify {SECOND}`" in str(caught.value)
    assert not (place.home / "run" / "supervisor.sock").exists()
    StoreAdmission(place.home).to_start(place.spec(place.first))


@tampered
def test_a_promotion_is_refused(
    place: Place, replica: str, tamper: Callable[[Place], None], told: str
) -> None:
    warm(place, place.second, replica)
    tamper(place)
    with pytest.raises(AdmissionError, match=told):
        promote(place, SECOND)
    with PointerStore(place.home) as store:
        assert store.pointer("demo") is None


@tampered
def test_a_rollback_is_refused(
    place: Place, replica: str, tamper: Callable[[Place], None], told: str
) -> None:
    for made in (place.second, place.first):
        warm(place, made, replica)
        promote(place, str(made.root.manifest.facts["version"]))
    tamper(place)
    admission = StoreAdmission(place.home)
    with pytest.raises(AdmissionError, match=told):
        moves.rollback(place.home, "demo", by="ana", reason="r", admission=admission)
    with PointerStore(place.home) as store:
        assert len(store.moves("demo")) == 2


def test_a_move_hashes_the_weights_again_only_if_their_files_changed(
    place: Place, replica: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = warm(place, place.second, replica)
    hashed: list[Path] = []

    def hash_none(folder: Path, *_: object) -> str:
        hashed.append(folder)
        return ""

    monkeypatch.setattr("serving.admission.weights_problem", hash_none)
    admission = StoreAdmission(place.home)
    admission.to_move(version)
    assert hashed == []
    (version.folder / "config.json").touch()
    admission.to_move(version)
    admission.to_move(version)
    assert hashed == [version.folder]
    admission.to_start(version)
    assert len(hashed) == 2


def test_other_weights_than_the_registered_ones_are_refused(place: Place) -> None:
    first, second = place.spec(place.first), place.spec(place.second)
    swapped = VersionSpec("demo", SECOND, first.digest, first.folder, 2048, "bfloat16")
    with pytest.raises(AdmissionError, match=r"no manifest in .* registers demo-v0002 with the"):
        StoreAdmission(place.home).to_start(swapped)
    elsewhere = VersionSpec("demo", SECOND, second.digest, first.folder, 2048, "bfloat16")
    with pytest.raises(AdmissionError, match=r"its weights in .* differ: model.safetensors"):
        StoreAdmission(place.home).to_start(elsewhere)
    gone = VersionSpec("demo", SECOND, second.digest, place.home / "gone", 2048, "bfloat16")
    with pytest.raises(AdmissionError, match="are gone"):
        StoreAdmission(place.home).to_start(gone)


def test_up_refuses_one_version_and_brings_up_the_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    place = place_at(home)
    running = Running(home, Ports(free_port(), free_port(), free_port()), StoreAdmission(home))
    try:
        # Recorded as after a `down`: what was in production, and what was kept warm.
        for made in (place.first, place.second):
            spec = place.spec(made)
            recorded = Version(
                *(spec.model, spec.version, spec.digest, spec.folder),
                *(served_name(spec.model, spec.version, spec.digest), 2048, "bfloat16"),
                replicas=(Replica(f"{spec.version}-replica-0", "http://127.0.0.1:1", 1, None),),
                state="ready",
            )
            with PointerStore(home) as store:
                store.record_version(recorded)
                store.promote("demo", spec.version, by="t", reason="r", admit=unasked)
                store.set_state("demo", spec.version, "stopped")
        place.revoke()
        status = running.up()
        (problem,) = (one for one in status.problems if "is not served" in one)
        assert problem.startswith(f"{SECOND} is not served: ")
        assert not [name for name in running.supervisor.statuses() if SECOND in name]
        assert (status.models[0].current_healthy, status.models[0].previous_healthy) == (0, 1)
        # The way out: production goes to the version that does verify.
        moves.rollback(home, "demo", by="ana", reason="r", admission=running.admission)
        with PointerStore(home) as store:
            assert store.resolve("demo").version == FIRST
        # What answers already is named, and not cut off.
        key = place.first.key.public.key_id
        revoke_key(home / "trust", key, by="jane", reason="lost", at=AT)
        status = running.up()
        (problem,) = (one for one in status.problems if one.startswith(FIRST))
        assert "Its replicas, started before, still answer" in problem
        assert status.models[0].current_healthy == 1
        # One that ends is not started again, not by the supervisor either.
        replica = f"{FIRST}-replica-0"
        os.kill(running.pid(replica), signal.SIGKILL)
        end = time.monotonic() + 30
        while f"{FIRST} is not served" not in running.supervisor.log_tail(replica):
            assert time.monotonic() < end, running.supervisor.log_tail(replica)
            time.sleep(0.1)
    finally:
        running.supervisor.shutdown(timeout_s=0.5)
