"""A local cluster that really runs a Job's container, as a process of this machine.

It speaks the API's JSON for Jobs, Pods and pod logs, knows Secrets by name, obeys backoffLimit 0
and the Job's podFailurePolicy, deletes in the foreground, and can evict or kill a pod.
"""

import json
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.compute.local_container import LocalContainer

NAMESPACE = "training"
_JOBS = ("apis", "batch", "v1", "namespaces", NAMESPACE, "jobs")
_PODS = ("api", "v1", "namespaces", NAMESPACE, "pods")


@dataclass
class Pod:
    """A pod of a Job."""

    name: str
    container: LocalContainer
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    code: int | None = None
    evicted: bool = False


@dataclass
class ClusterJob:
    """A Job as the cluster knows it."""

    document: dict[str, Any]
    pods: list[Pod] = field(default_factory=list)
    conditions: list[dict[str, str]] = field(default_factory=list)
    deleted: bool = False
    waiting: str = ""


class KubernetesServer:
    """The cluster; `cut` counts answers that are cut off by verb and resource, the work done.

    While it is `away`, every call is cut off and nothing is done.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.jobs: dict[str, ClusterJob] = {}
        self.over: dict[str, ClusterJob] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.away = False
        self.calls: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self._folder, self._environment = folder, environment
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def config(self, path: Path) -> None:
        """Write a kubeconfig whose present context is another cluster; ``here`` is this one."""
        here = {"cluster": {"server": self.url}, "name": "here"}
        elsewhere = {"cluster": {"server": "http://127.0.0.1:9"}, "name": "elsewhere"}
        contexts = [
            {"name": one, "context": {"cluster": one, "user": "me", "namespace": "default"}}
            for one in ("here", "elsewhere")
        ]
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [here, elsewhere],
            "users": [{"name": "me", "user": {"token": "a-token-that-stays-here"}}],
            "contexts": contexts,
            "current-context": "elsewhere",
        }
        path.write_text(json.dumps(document))

    def close(self) -> None:
        for job in (*self.jobs.values(), *self.over.values()):
            for pod in job.pods:
                if pod.container.process.poll() is None:
                    pod.container.process.kill()
        self._server.shutdown()
        self._server.server_close()

    def evict(self, pod: Pod) -> None:
        """Take the pod's node away: it gets SIGTERM and the condition DisruptionTarget."""
        pod.evicted = True
        pod.container.stop()

    def kill(self, pod: Pod) -> None:
        """Kill the container, as a machine that is lost does."""
        pod.container.process.send_signal(signal.SIGKILL)

    def expire(self, name: str) -> None:
        """Forget a Job that is over, as ttlSecondsAfterFinished asks for."""
        assert self.jobs[name].conditions
        self.over[name] = self.jobs.pop(name)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                if server.away:
                    self.close_connection = True
                    return
                parts = urlsplit(self.path)
                query = {key: one[0] for key, one in parse_qs(parts.query).items()}
                path = tuple(parts.path.strip("/").split("/"))
                call, status, content = server._call(self.command, path, query, body)
                server.calls[call] += 1
                if server.cut[call] > 0:
                    server.cut[call] -= 1
                    self.close_connection = True
                    return
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                kind = "text/plain" if isinstance(content, str) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _call(
        self, verb: str, path: tuple[str, ...], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[str, int, Any]:
        if verb == "POST" and path == _JOBS:
            return ("create jobs", *self._create(body))
        if path[:-1] == _JOBS:
            job = self.jobs.get(path[-1])
            call = f"{'delete' if verb == 'DELETE' else 'get'} jobs"
            if job is None:
                return (call, *_error(404, "NotFound", f'jobs.batch "{path[-1]}" not found'))
            if verb == "DELETE":
                self._delete(path[-1], job, query.get("propagationPolicy", ""))
            return call, 200, self._job(job)
        if path == _PODS:
            name = query["labelSelector"].removeprefix("job-name=")
            pods = self.jobs[name].pods if name in self.jobs else []
            items = [self._pod(self.jobs[name], pod) for pod in pods]
            return "list pods", 200, {"kind": "PodList", "apiVersion": "v1", "items": items}
        if path[-1] == "log" and path[:-2] == _PODS:
            return ("get pods/log", *self._log(path[-2], query))
        return ("?", *_error(404, "NotFound", "/".join(path)))

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        with self._lock:
            if name in self.jobs:
                return _error(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
            self.jobs[name] = job = ClusterJob(body)
        threading.Thread(target=self._run, args=(name, job), daemon=True).start()
        return 201, self._job(job)

    def _delete(self, name: str, job: ClusterJob, policy: str) -> None:
        assert policy == "Foreground"
        job.deleted = True
        for pod in job.pods:
            pod.container.stop()
        if job.conditions:
            self.over[name] = self.jobs.pop(name)

    def _run(self, name: str, job: ClusterJob) -> None:
        spec = job.document["spec"]
        container = spec["template"]["spec"]["containers"][0]
        for one in container["envFrom"]:
            while (secret := one["secretRef"]["name"]) not in self.secrets:
                job.waiting = f'secret "{secret}" not found'
                time.sleep(0.05)
        job.waiting = ""
        while not job.deleted:
            pod = self._start(name, job, container)
            code = pod.container.wait()
            pod.code = code
            ignored = pod.evicted and any(
                rule["action"] == "Ignore"
                and rule["onPodConditions"][0]["type"] == "DisruptionTarget"
                for rule in spec["podFailurePolicy"]["rules"]
            )
            if code == 0 or not ignored:
                break
        assert spec["backoffLimit"] == 0
        if job.deleted:
            self.over[name] = self.jobs.pop(name)
        elif code == 0:
            job.conditions.append({"type": "Complete", "status": "True"})
        else:
            job.conditions.append(
                {
                    "type": "Failed",
                    "status": "True",
                    "reason": "BackoffLimitExceeded",
                    "message": "Job has reached the specified backoff limit",
                }
            )

    def _start(self, name: str, job: ClusterJob, container: dict[str, Any]) -> Pod:
        pod = f"{name}-{len(job.pods):05}"
        folder = self._folder / pod
        (mount,) = container["volumeMounts"]
        assert mount["mountPath"] == "/opt/ml"
        environment = dict(self._environment)
        for one in container["envFrom"]:
            environment |= self.secrets[one["secretRef"]["name"]]
        environment |= {one["name"]: one["value"] for one in container["env"]}
        environment["FTDM_ML_ROOT"] = str(folder)
        assert environment["FTDM_FAILURE_FILE"] == container["terminationMessagePath"]
        environment["FTDM_FAILURE_FILE"] = str(folder / "termination-log")
        made = Pod(pod, LocalContainer.run(container["command"], environment, folder))
        job.pods.append(made)
        return made

    def _job(self, job: ClusterJob) -> dict[str, Any]:
        metadata = dict(job.document["metadata"])
        if job.deleted:
            metadata["deletionTimestamp"] = _time(datetime.now(UTC))
        return {**job.document, "metadata": metadata, "status": {"conditions": job.conditions}}

    def _pod(self, job: ClusterJob, pod: Pod) -> dict[str, Any]:
        container = pod.container
        state: dict[str, Any] = {"running": {"startedAt": _time(container.started)}}
        phase = "Running"
        if pod.code is not None:
            file = container.folder / "termination-log"
            state = {
                "terminated": {
                    "exitCode": pod.code,
                    "reason": "Completed" if pod.code == 0 else "Error",
                    "message": file.read_text() if file.exists() else "",
                    "startedAt": _time(container.started),
                    "finishedAt": _time(container.ended or datetime.now(UTC)),
                }
            }
            phase = "Succeeded" if pod.code == 0 else "Failed"
        name = job.document["spec"]["template"]["spec"]["containers"][0]["name"]
        status = {"name": name, "image": "", "imageID": "", "ready": False, "restartCount": 0}
        taken = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
        return {
            "metadata": {"name": pod.name, "creationTimestamp": _time(pod.created)},
            "spec": {"nodeName": "node-1", "containers": [{"name": name}]},
            "status": {
                "phase": phase,
                "containerStatuses": [{**status, "state": state}],
                "conditions": taken if pod.evicted else [],
            },
        }

    def _log(self, name: str, query: dict[str, str]) -> tuple[int, Any]:
        pods = [pod for job in self.jobs.values() for pod in job.pods if pod.name == name]
        if not pods:
            return _error(404, "NotFound", f'pods "{name}" not found')
        assert query["timestamps"] == "True"
        since = time.time() - int(query.get("sinceSeconds", 10**9))
        lines = [
            f"{_time(at)} {line}" for at, line in pods[0].container.lines if at.timestamp() >= since
        ]
        return 200, "".join(f"{line}\n" for line in lines)


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "000Z" if at.microsecond else "Z")


def _error(status: int, reason: str, message: str) -> tuple[int, Any]:
    return status, {
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": message, "code": status,
    }  # fmt: skip
