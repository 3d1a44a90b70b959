"""The calls to the cluster's API that a rollout needs, patient while the API is away.

Objects go over as they are, by server-side apply: the same object twice changes nothing, and what
others have set beside it (a note, a label) stays theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ftdm_assets.cluster.connection import TIMEOUT, may_pass, sentence, token_ran_out
from ftdm_assets.patience import OutOfReachError, patiently
from serving.kubernetes.objects import API
from serving.platform import DeploymentError

T = TypeVar("T")
SECTION = "serving.kubernetes"
_MANAGER = "ftdm"
_PLURAL = {
    "StatefulSet": "statefulsets",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies",
    "Service": "services",
}
_LAST_LINES = 20


@dataclass
class Cluster:
    """One namespace of one cluster.

    Attributes:
        connect: Makes a client; made anew when a token has run out.
        namespace: Whose objects are meant.
        patience_s: How long the API may be out of reach.
        poll_s: Seconds between two looks, and between two tries.
        say: Is told what is waited out.
    """

    connect: Callable[[], Any]
    namespace: str
    patience_s: float = 300.0
    poll_s: float = 2.0
    say: Callable[[str], None] = lambda _: None
    _client: Any = field(default=None, repr=False)

    def apply(self, made: dict[str, Any]) -> None:
        """Make an object, or what differs of it, what it is to be."""
        kind, name = made["kind"], made["metadata"]["name"]
        query = [("fieldManager", _MANAGER), ("force", "true")]
        path = self._path(kind, name)
        self._asked(
            f"applying {kind} {name}",
            lambda: self._call("PATCH", path, query, made, "application/apply-patch+yaml"),
        )

    def exists(self, kind: str, name: str) -> bool:
        """Say whether there is an object that is not being deleted."""
        path = self._path(kind, name)
        found = self._asked(f"looking up {kind} {name}", lambda: _or_none(self._call, "GET", path))
        return found is not None and "deletionTimestamp" not in found["metadata"]

    def delete(self, kind: str, name: str) -> None:
        """Delete an object; its pods are ended by the cluster, in their own time."""
        query = [("propagationPolicy", "Background")]
        path = self._path(kind, name)
        self._asked(f"deleting {kind} {name}", lambda: _or_none(self._call, "DELETE", path, query))

    def pods(self, chosen: dict[str, str]) -> list[Any]:
        """Return the pods with these labels that are not being deleted, by name."""
        selector = ",".join(f"{key}={value}" for key, value in chosen.items())
        found = self._asked(
            "looking at the pods",
            lambda: self._core().list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUT
            ),
        )
        live = [one for one in found.items if one.metadata.deletion_timestamp is None]
        return sorted(live, key=lambda pod: str(pod.metadata.name))

    def log(self, pod: str, container: str, *, previous: bool) -> str:
        """Return the end of a container's log; of its life before, where it waits for another."""
        from kubernetes.client import ApiException

        for earlier in (previous, False):
            try:
                answer = self._core().read_namespaced_pod_log(
                    pod,
                    self.namespace,
                    container=container,
                    previous=earlier,
                    tail_lines=_LAST_LINES,
                    _preload_content=False,
                    _request_timeout=TIMEOUT,
                )
            except ApiException:
                continue
            return str(answer.data.decode(errors="replace").strip())
        return ""

    def _core(self) -> Any:
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self._api())

    def _api(self) -> Any:
        self._client = self._client or self.connect()
        return self._client

    def _asked(self, what: str, call: Callable[[], T]) -> T:
        try:
            return patiently(
                call,
                passes=self._passes,
                say=lambda text: self.say(f"{what}: {text}; trying again"),
                seconds=self.patience_s,
                pause=self.poll_s,
            )
        except OutOfReachError as error:
            raise DeploymentError(
                f"{what}: Kubernetes was out of reach for {self.patience_s:.0f} s "
                f"({error}); look at the cluster, then run again"
            ) from None
        except Exception as error:
            said = sentence(error, SECTION)
            if not said:
                raise
            raise DeploymentError(f"{what}: {said}") from None

    def _passes(self, error: Exception) -> bool:
        if token_ran_out(error):
            self._client = None
        return may_pass(error)

    def _path(self, kind: str, name: str) -> str:
        version = API[kind]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        return f"{root}/namespaces/{self.namespace}/{_PLURAL[kind]}/{name}"

    def _call(
        self,
        verb: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: dict[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        return self._api().call_api(
            path,
            verb,
            query_params=query or [],
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            response_types_map={200: "object", 201: "object", 202: "object"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=TIMEOUT,
        )


def _or_none(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns; nothing where the API knows no such object."""
    from kubernetes.client import ApiException

    try:
        return call(*arguments)
    except ApiException as error:
        if error.status != 404:
            raise
        return None
