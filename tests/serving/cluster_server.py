"""A local cluster that runs StatefulSets, Deployments and Services, on the server of the Jobs.

It takes objects by server-side apply, and refuses what the API's schema refuses; it keeps as many
pods alive as are asked for, replaces them when their template changes, and ends them when their
object is deleted.
"""

import threading
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.compute.kubernetes_server import KubernetesServer
from tests.compute.kubernetes_server import _error as error
from tests.serving.cluster_pod import ClusterPod, World
from tests.serving.loopback_service import LoopbackService, loopback_hosts

VERSION = "1.30"
NAMESPACE = "serving"
_SETS = ("statefulsets", "deployments")
_KINDS = {*_SETS, "services", "networkpolicies", "poddisruptionbudgets"}


class ClusterServer(KubernetesServer):
    """The cluster; `world` is what its pods find, `hosts` how they are called."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "pods")
        self.hosts = loopback_hosts(str(folder))
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[tuple[str, str], list[ClusterPod]] = {}
        self.applied: list[str] = []
        self._services: dict[str, LoopbackService] = {}
        self._gone: list[ClusterPod] = []
        self._change = threading.Lock()
        super().__init__(folder / "jobs", {})

    def close(self) -> None:
        super().close()
        for service in self._services.values():
            service.close()
        for pod in (*self._living(), *self._gone):
            pod.join()

    def _living(self) -> list[ClusterPod]:
        return [pod for pods in list(self.pods.values()) for pod in pods]

    def _call(
        self, verb: str, path: tuple[str, ...], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[str, int, Any]:
        place = path[path.index("namespaces") + 1 :] if "namespaces" in path else ()
        if place == (NAMESPACE, "pods"):
            return "list pods", 200, self._listed(query.get("labelSelector", ""))
        if place[:2] == (NAMESPACE, "pods") and place[-1] == "log":
            return ("get pods/log", *self._logged(place[2], query))
        if len(place) == 3 and place[0] == NAMESPACE and place[1] in _KINDS:
            call = f"{ {'PATCH': 'apply', 'GET': 'get', 'DELETE': 'delete'}[verb] } {place[1]}"
            with self._change:
                return (call, *self._object(verb, (place[1], place[2]), query, body))
        return super()._call(verb, path, query, body)

    def _object(
        self, verb: str, key: tuple[str, str], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, Any]:
        if verb == "PATCH":
            return self._apply(key, query, body)
        found = self.objects.get(key)
        if found is None:
            return error(404, "NotFound", f'{key[0]} "{key[1]}" not found')
        if verb == "DELETE":
            del self.objects[key]
            self._settle(key, 0)
            if key[1] in self._services and key[0] == "services":
                self._services.pop(key[1]).close()
        return 200, found

    def _apply(
        self, key: tuple[str, str], query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, Any]:
        assert query["fieldManager"] == "ftdm"
        assert body["metadata"]["name"] == key[1]
        try:
            kubernetes_validate.validate(body, VERSION, strict=True)
        except kubernetes_validate.ValidationError as problem:
            return error(400, "BadRequest", str(problem.message))
        known = self.objects.get(key)
        self.applied.append("/".join(key))
        self.objects[key] = body
        if known != body:
            if known and key[0] in _SETS and known["spec"]["template"] != body["spec"]["template"]:
                self._settle(key, 0)
            self._settle(key, body["spec"].get("replicas", 0) if key[0] in _SETS else 0)
            if key[0] == "services" and body["spec"].get("clusterIP") != "None" and not known:
                self._serve(key[1], body["spec"])
        return 200 if known else 201, body

    def _settle(self, key: tuple[str, str], count: int) -> None:
        """Make and end pods of a set until it has that many."""
        pods = self.pods.setdefault(key, [])
        while len(pods) > count:
            pods[-1].delete()
            self._gone.append(pods.pop())
        while len(pods) < count:
            name = f"{key[1]}-{len(pods)}"
            host = f"{name}.{key[1]}" if key[0] == "statefulsets" else name
            template = self.objects[key]["spec"]["template"]
            pods.append(ClusterPod(name, self.hosts(host), template, self.world))

    def _serve(self, name: str, spec: dict[str, Any]) -> None:
        port, chosen = spec["ports"][0], spec["selector"]

        def endpoints() -> list[tuple[str, int]]:
            return [
                (pod.address, port["targetPort"])
                for pod in self._living()
                if pod.ready and chosen.items() <= pod.labels.items()
            ]

        self._services[name] = LoopbackService(self.hosts(name), port["port"], endpoints)

    def _listed(self, selector: str) -> dict[str, Any]:
        chosen = dict(part.split("=", 1) for part in selector.split(","))
        items = [
            pod.document()
            for pod in (*self._living(), *self._gone)
            if chosen.items() <= pod.labels.items()
        ]
        return {"kind": "PodList", "apiVersion": "v1", "items": items}

    def _logged(self, name: str, query: dict[str, str]) -> tuple[int, Any]:
        for pod in self._living():
            if pod.name == name:
                text = pod.log(query["container"], query.get("previous") == "True")
                if text is not None:
                    tail = text.splitlines()[-int(query["tailLines"]) :]
                    return 200, "\n".join(tail)
        return error(400, "BadRequest", f"no log of {name}")
