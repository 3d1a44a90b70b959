"""The smoke test asks what the evaluation found answered right, ten examples, of each replica."""

from pathlib import Path

import pytest

from ftdm_assets.graph.replica_smoke import correct_of_each
from ftdm_assets.graph.smoke import SMOKE_EXAMPLES, below, smoke_examples
from golden.client import EndpointError
from golden.examples import Example
from serving.pointer import PointerStore
from serving.versions import Replica, Version
from tests.graph.stage import Stage
from tests.serving.serving_support import digest_of
from tests.serving.warm_replica import WarmReplica, warm_replica

EXAMPLES = [Example(f"g{number:02d}", "text", "label", "") for number in range(30)]


def _scores(right: set[str]) -> dict[str, object]:
    rows = [{"example_id": one.example_id, "correct": one.example_id in right} for one in EXAMPLES]
    return {"task": {"per_example": rows}}


def test_it_takes_what_was_answered_right() -> None:
    right = {f"g{number:02d}" for number in range(12, 28)}
    taken = [one.example_id for one in smoke_examples(EXAMPLES, _scores(right))]
    assert taken == [f"g{number}" for number in range(12, 12 + SMOKE_EXAMPLES)]


def test_it_fills_up_with_others() -> None:
    taken = [one.example_id for one in smoke_examples(EXAMPLES, _scores({"g20", "g05"}))]
    assert taken[:3] == ["g05", "g20", "g00"]
    assert len(taken) == SMOKE_EXAMPLES


def _recorded(stage: Stage, *replicas: WarmReplica) -> Version:
    version = Version(
        *("demo", "demo-v0001", digest_of("demo"), Path("/m"), "demo@v0001-x", 2048, "bfloat16"),
        replicas=tuple(
            Replica(f"replica-{number}", one.url, one.server_port, None)
            for number, one in enumerate(replicas)
        ),
    )
    with PointerStore(stage.reading.home) as store:
        return store.record_version(version)


def test_each_replica_is_asked_for_its_own_name_and_judged_by_itself(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    examples = [Example(f"g{number}", f"text {number}", "a", "") for number in range(3)]
    with warm_replica() as good, warm_replica() as bad:
        bad.says = "b"
        version = _recorded(stage, good, bad)
        found = correct_of_each(stage.reading, version.version, examples)
        assert found == {"replica-0": 3, "replica-1": 0}
        for one in (good, bad):
            assert [asked["model"] for asked in one.asked] == [version.served_name] * 3
        bad.status = 404
        with pytest.raises(EndpointError, match="HTTP 404"):
            correct_of_each(stage.reading, version.version, examples)


def test_a_single_replica_that_answers_wrong_fails_the_smoke_test() -> None:
    smoke = {"correct": 9, "examples": 10, "replicas": {"one": 10, "two": 3}}
    assert below(smoke, 7) == "two 3"
    assert below(smoke, 3) == ""
    assert below({**smoke, "correct": 2}, 4) == "the gateway 2, two 3"
