"""What is made of the pods that a cluster shows: which are hopeless, and what is said of them."""

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from serving.kubernetes.cluster import Cluster
from serving.kubernetes.pods import PodsWatched

NOW = "2026-11-29T12:00:00Z"


class Api(ThreadingHTTPServer):
    """Answers with the pods that it was given, and with no log."""

    def __init__(self, pods: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.pods = pods


class _Answer(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        listed = self.path.partition("?")[0].endswith("/pods")
        content = json.dumps({"kind": "PodList", "apiVersion": "v1", "items": self.server.pods})
        self.send_response(200 if listed else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        pass


def pod(
    state: Mapping[str, Any], *, restarts: int = 0, ready: str = "False", name: str = "a-0"
) -> dict[str, Any]:
    status = {
        "name": "engine", "image": "", "imageID": "", "ready": ready == "True",
        "restartCount": restarts, "state": state,
    }  # fmt: skip
    return {
        "metadata": {"name": name, "creationTimestamp": NOW},
        "spec": {"nodeName": "node-1", "containers": [{"name": "engine"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [status],
        },
    }


def watched(*pods: dict[str, Any]) -> PodsWatched:
    api = Api(list(pods))
    Thread(target=api.serve_forever, args=(0.01,)).start()
    try:
        where = Configuration(host=f"http://127.0.0.1:{api.server_port}")
        cluster = Cluster(lambda: ApiClient(where), "serving", patience_s=0)
        found = PodsWatched(cluster, {"part": "engine"})
        found.look()
        found.told = found.last_words("a-0")  # type: ignore[attr-defined]
    finally:
        api.shutdown()
        api.server_close()
    return found


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": "as it says"}}


@pytest.mark.parametrize(
    ("state", "restarts", "told"),
    [
        ({"running": {"startedAt": NOW}}, 9, ""),
        (waiting("PodInitializing"), 0, ""),
        (waiting("ErrImagePull"), 0, ""),
        (waiting("CrashLoopBackOff"), 1, ""),
        (waiting("CrashLoopBackOff"), 2, "keeps ending at its start"),
        (waiting("ImagePullBackOff"), 0, "cannot get its image"),
        (waiting("CreateContainerConfigError"), 0, "lacks something that it needs to be made"),
    ],
)
def test_a_pod_is_hopeless_when_it_will_not_mend_itself(
    state: dict[str, Any], restarts: int, told: str
) -> None:
    assert watched(pod(state, restarts=restarts)).hopeless("a-0") == told


def test_a_pod_that_is_ready_but_out_of_reach_says_where_to_run() -> None:
    found = watched(pod({"running": {"startedAt": NOW}}, ready="True"))
    assert found.ready("a-0")
    assert "run ftdm in the cluster" in found.told  # type: ignore[attr-defined]
    away = watched(pod({"running": {"startedAt": NOW}}))
    assert not away.ready("a-0")
    assert "run ftdm" not in away.told  # type: ignore[attr-defined]


def test_what_is_being_deleted_counts_for_nothing() -> None:
    gone = pod({"running": {"startedAt": NOW}}, ready="True")
    gone["metadata"]["deletionTimestamp"] = NOW
    found = watched(gone)
    assert not found.ready("a-0")
    assert found.state("a-0") == "it has no pod yet"


def test_each_pod_is_judged_by_its_own_state() -> None:
    well = pod({"running": {"startedAt": NOW}}, ready="True", name="a-1")
    found = watched(pod(waiting("ImagePullBackOff")), well)
    assert found.hopeless("a-0") == "cannot get its image"
    assert not found.ready("a-0")
    assert found.ready("a-1")
    assert found.hopeless("a-1") == ""


def test_a_pod_says_what_it_waits_for() -> None:
    said = watched(pod(waiting("ErrImagePull"))).state("a-0")
    assert said == "pod a-0 Running on node-1 (ErrImagePull: as it says)"
