"""Versions roll out on a cluster whose pods are processes: real gateways, admission and load.

The cluster is local (`tests.serving.cluster_server`); client, gateways, what is asked of the
evidence and every command of a pod are the real ones, but for vLLM, which a fake stands in for.
"""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from serving import moves
from serving.deployment import resume, retire_others, start_version, stop_version
from serving.health import answering, serves
from serving.platform import DeploymentError, recorded_spec
from serving.pointer import PointerStore
from serving.stack import down
from serving.versions import CacheTerms, PointerError
from tests.serving.cluster_server import ClusterServer
from tests.serving.cluster_site import (
    MODEL,
    V1,
    Site,
    broken_engine,
    cluster_site,
    gateway,
    settled,
    until,
)
from tests.serving.serving_support import under_load

pytestmark = pytest.mark.alone


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with cluster_site(tmp_path) as one:
        yield one


@contextmanager
def away_for(server: ClusterServer, seconds: float) -> Iterator[None]:
    """Let the API be away from now on for some seconds."""
    server.away = True
    timer = threading.Timer(seconds, lambda: setattr(server, "away", False))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_versions_come_and_go_under_load_and_nobody_notices(site: Site) -> None:
    site.replicas = 2
    first = site.start(1)
    assert first.version.state == "ready"
    assert all(serves(one.url, first.version.served_name) for one in first.version.replicas)
    assert answering(first.version) == 2
    site.promote(1)
    with gateway(site) as door, under_load(door, MODEL) as load:
        assert settled(load, f"{MODEL}-v0001")
        site.start(2)
        assert load.versions() == {f"{MODEL}-v0001"}
        site.promote(2)
        assert settled(load, f"{MODEL}-v0002")
        # What is up already is left alone, and so is what another platform knows of.
        applied = len(site.server.applied)
        assert site.start(2).seconds == 0.0
        assert resume(site.home, admission=site.admission, platform=site.platform()) == {}
        assert resume(site.home, admission=site.admission) == {}
        assert len(site.server.applied) == applied
        with pytest.raises(DeploymentError, match="v0002 has run on another platform"):
            start_version(site.home, site.spec(2), admission=site.admission)
        moves.rollback(site.home, MODEL, by="test", reason="back", admission=site.admission)
        assert settled(load, f"{MODEL}-v0001")
        moves.rollback(site.home, MODEL, by="test", reason="forth", admission=site.admission)
        # The API is away for a while in the midst of it.
        with away_for(site.server, 1.0):
            site.start(3)
        assert any("trying again" in one for one in site.said)
        site.promote(3)
        assert settled(load, f"{MODEL}-v0003")
        retired = retire_others(site.home, MODEL, platform=site.platform())
        assert retired == [f"{MODEL}-v0001"]
        with pytest.raises(DeploymentError, match="kept warm"):
            stop_version(site.home, MODEL, "v0002", platform=site.platform())
        assert settled(load, f"{MODEL}-v0003")
    assert load.failures() == []
    assert len(load.answers) > 50
    assert site.kinds(1) == []
    parts = ["networkpolicies", "poddisruptionbudgets", "services", "statefulsets"]
    assert site.kinds(2) == site.kinds(3) == parts
    assert (site.recorded(1).state, site.recorded(2).state) == ("stopped", "ready")
    with pytest.raises(PointerError, match="is stopped, not ready"):
        moves.rollback(site.home, MODEL, "v0001", by="t", reason="r", admission=site.admission)
    # What is stopped here is not what runs in the cluster.
    down(site.home)
    assert site.recorded(3).state == "ready"


def test_pods_die_and_are_replaced_and_no_call_fails(site: Site) -> None:
    site.replicas = 2
    site.put(1)
    version = site.recorded(1)
    first, second = ((MODEL, V1, one.name) for one in version.replicas)
    with gateway(site) as one, gateway(site) as two:
        doors = (one, two)

        def rotated(pod: tuple[str, str, str], within: bool) -> None:
            until(lambda: all(door.rotation.rotated()[pod] is within for door in doors))

        until(lambda: all(len(door.rotation.rotated()) == 2 for door in doors))
        with (
            under_load(one, MODEL, count=2) as plain,
            under_load(two, MODEL, stream=True, count=2) as told,
        ):
            # An engine dies: its pod starts it again, behind admission, once it has its image.
            pod, world = site.pod(1), site.server.world
            world.missing_images.add(site.place.engine_image)
            os.kill(pod.main.lives[-1].process.pid, signal.SIGKILL)
            rotated(first, False)
            world.missing_images.clear()
            rotated(first, True)
            assert len(pod.main.lives) == 2
            # A node is drained: another pod takes place and name, once there is another node.
            drained, world.nodes = site.pod(1, index=1), 0
            site.server.drain(drained)
            rotated(second, False)
            world.nodes = 1
            rotated(second, True)
            assert site.pod(1, index=1) is not drained
            assert settled(plain, V1)
            assert settled(told, V1)
        out = [sum(door.rotation.taken_out.values()) for door in doors]
    assert plain.failures() == told.failures() == []
    assert told.streamed_texts() == {"w0 w1 "}
    assert min(out) >= 2
    assert serves(version.replicas[0].url, version.served_name)


def test_form_and_terms_are_kept_and_changed_without_touching_a_pod(site: Site) -> None:
    form: dict[str, Any] = {"choice": ["b", "a"]}
    spec = replace(site.spec(1), form=form, cache=CacheTerms(ttl_s=60, shared=False))
    start = partial(
        start_version, site.home, admission=site.admission, replicas=1, platform=site.platform()
    )
    start(spec)
    one = site.recorded(1)
    assert (one.form, one.cache, one.state) == (form, CacheTerms(ttl_s=60, shared=False), "ready")
    schema = {"json": {"type": "object", "properties": {"z": {}, "a": {}}}}
    applied, lives = len(site.server.applied), len(site.pod(1).main.lives)
    # Of an engine that runs it stays as it is, whether it can sleep.
    again = start(replace(spec, form=schema, cache=CacheTerms(enabled=False), sleeps=True))
    assert (again.seconds, again.version) == (0.0, site.recorded(1))
    assert (again.version.form, again.version.cache) == (schema, CacheTerms(enabled=False))
    assert again.version.replicas == one.replicas
    assert (len(site.server.applied), len(site.pod(1).main.lives)) == (applied, lives)
    # And what starts it again has them, too.
    stop_version(site.home, MODEL, "v0001", platform=site.platform())
    start(recorded_spec(site.recorded(1)))
    found = site.recorded(1)
    assert (found.form, found.cache, found.state) == (schema, CacheTerms(enabled=False), "ready")


def flip_a_byte(site: Site) -> dict[str, Any]:
    """Change the weights after this machine has looked at them, as seen by the pods."""
    folder = site.spec(1).folder
    claim = site.home.with_name("claim")
    shutil.copytree(site.home, claim)
    site.server.world.claims["ftdm-home"] = claim
    path = claim / folder.relative_to(site.home) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(bytes(content))
    return {}


def has_no_image(site: Site) -> dict[str, Any]:
    site.server.world.missing_images.add(site.place.engine_image)
    return {}


def has_no_node(site: Site) -> dict[str, Any]:
    site.server.world.nodes = 0
    return {"timeout_s": 1.5}


def has_no_home(site: Site) -> dict[str, Any]:
    site.server.world.claims["ftdm-home"] = site.home / "elsewhere"
    return {}


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (flip_a_byte, r"keeps ending.*container bring:.*model\.safetensors was changed"),
        (has_no_image, r"cannot get its image; pod .*ImagePullBackOff: Back-off pulling image"),
        (has_no_node, r"did not answer in time; .*Unschedulable: 0/3 nodes are available"),
        (has_no_home, r"lacks something that it needs to be made.*no subPath"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_rollout_that_fails_says_why_and_leaves_nothing(
    site: Site, breaks: Callable[[Site], dict[str, Any]], told: str
) -> None:
    site.spec(1)
    with pytest.raises(DeploymentError, match=f"(?s)demo-v0001 was not started: .*{told}"):
        site.start(1, **breaks(site))
    assert site.server.objects == {}
    assert site.recorded(1).state == "failed"


def first_name(site: Site) -> str:
    return site.recorded(1).replicas[0].name.removesuffix("-0")


def test_production_stays_as_it_was_when_a_rollout_fails(site: Site) -> None:
    # An answer that is lost is asked for again: what was applied is applied once more.
    site.server.cut["apply statefulsets"] = 1
    site.start(1)
    assert site.server.applied.count(f"statefulsets/{first_name(site)}") == 2
    site.promote(1)
    before = {key: one for key, one in site.server.objects.items() if "v0001" in key[1]}
    with gateway(site) as door, under_load(door, MODEL) as load:
        told = r"(?s)v0002 was not started: .*keeps ending at its start.*CrashLoop.*told to fail"
        with pytest.raises(DeploymentError, match=told):
            site.start(2, engine=broken_engine)
        assert settled(load, f"{MODEL}-v0001")
    assert load.failures() == []
    assert site.server.objects == before
    with PointerStore(site.home) as store:
        assert store.resolve(MODEL).version == f"{MODEL}-v0001"


def test_an_api_that_is_away_for_good_is_said(site: Site) -> None:
    site.patience_s = 2.0
    site.server.away = True
    with pytest.raises(DeploymentError, match="Kubernetes was out of reach for 2 s"):
        site.start(1)
    assert not site.server.objects


def test_an_api_that_goes_away_in_a_rollout_says_what_may_be_left(site: Site) -> None:
    site.patience_s = 0.5
    site.server.world.nodes = 0

    def leave() -> None:
        until(lambda: any(one.startswith("statefulsets/") for one in site.server.applied))
        site.server.away = True

    threading.Thread(target=leave).start()
    with pytest.raises(DeploymentError, match=r"out of reach.*may still run.*kubectl -n serving"):
        site.start(1, timeout_s=20)
    assert site.recorded(1).state == "failed"
    # Once it is back, another try finds what was left and takes it over.
    site.patience_s, site.server.away, site.server.world.nodes = 30, False, 1
    assert site.start(1).version.state == "ready"


def test_what_the_api_refuses_is_said_in_its_words(site: Site) -> None:
    with pytest.raises(DeploymentError, match=r"applying StatefulSet .*: Kubernetes answered 400"):
        site.start(1, resources={"limits": ["none"]})
    assert site.server.objects == {}


def test_weights_outside_of_the_store_are_refused(site: Site, tmp_path: Path) -> None:
    spec = replace(site.spec(1), folder=tmp_path)
    with (
        PointerStore(site.home) as store,
        pytest.raises(DeploymentError, match="lies outside of the store"),
    ):
        site.platform().plan(store, spec, 2)
