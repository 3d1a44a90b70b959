"""What a version's pods say while they are waited for."""

from typing import Any

from ftdm_assets.cluster.pods import state, statuses
from serving.kubernetes.cluster import Cluster
from serving.kubernetes.naming import PART_LABEL
from serving.kubernetes.policies import ORCHESTRATOR

_LIVES = 3
_CRASHES = "CrashLoopBackOff"
_HOPELESS = {
    "ImagePullBackOff": "cannot get its image",
    "InvalidImageName": "cannot get its image",
    "CreateContainerConfigError": "lacks something that it needs to be made",
    "CreateContainerError": "cannot be made",
    "RunContainerError": "cannot be started",
    _CRASHES: "keeps ending at its start",
}
_OUT_OF_REACH = (
    "the cluster calls it ready, but it does not answer here, or not under the version's name: "
    f"run ftdm in the cluster, in a pod with the label {PART_LABEL}: {ORCHESTRATOR}"
)


class PodsWatched:
    """The pods of some parts of a version; see `serving.waiting.Watched`.

    A pod without a node is no hopeless one: a node may come. It is told as what is waited for.
    """

    def __init__(self, cluster: Cluster, parts: dict[str, dict[str, str]]) -> None:
        """Watch pods by their labels; for a single pod its name is the key, else its part's."""
        self._cluster, self._parts = cluster, parts
        self._pods: dict[str, list[Any]] = {}

    @property
    def pause_s(self) -> float:
        """As the settings say."""
        return self._cluster.poll_s

    def look(self) -> None:
        """Ask for the pods anew, once for all that share their labels."""
        found: dict[tuple[tuple[str, str], ...], list[Any]] = {}
        for name, chosen in self._parts.items():
            key = tuple(sorted(chosen.items()))
            if key not in found:
                found[key] = self._cluster.pods(chosen)
            own = [pod for pod in found[key] if pod.metadata.name == name]
            self._pods[name] = own or ([] if len(self._parts) > 1 else found[key])

    def ready(self, name: str) -> bool:
        """Say whether the cluster calls one pod of a part ready."""
        return any(
            one.type == "Ready" and one.status == "True"
            for pod in self._pods.get(name, ())
            for one in pod.status.conditions or ()
        )

    def hopeless(self, name: str) -> str:
        """Return why a pod cannot come up; see `Watched`."""
        for pod in self._pods.get(name, ()):
            for status in statuses(pod):
                waiting = status.state.waiting if status.state else None
                reason = waiting.reason if waiting else ""
                if reason == _CRASHES and status.restart_count + 1 < _LIVES:
                    continue
                if reason in _HOPELESS:
                    return _HOPELESS[reason]
        return ""

    def state(self, name: str) -> str:
        """Return what the cluster says that a pod waits for."""
        pods = self._pods.get(name, [])
        return "; ".join(state(pod) for pod in pods) or "it has no pod yet"

    def last_words(self, name: str) -> str:
        """Return a pod's state and the end of the log of the container that is at fault."""
        told = [self.state(name)]
        if self.ready(name):
            told.append(_OUT_OF_REACH)
        for pod in self._pods.get(name, ()):
            container = _at_fault(pod)
            if container is None:
                continue
            previous = container.restart_count > 0
            log = self._cluster.log(pod.metadata.name, container.name, previous=previous)
            if log:
                told.append(f"the end of the log of its container {container.name}:\n{log}")
        return "\n".join(told)


def _at_fault(pod: Any) -> Any:
    """Return the first container that is not ready and has not done its work, or None."""
    for status in statuses(pod):
        ended = status.state.terminated if status.state else None
        if not status.ready and not (ended is not None and ended.exit_code == 0):
            return status
    return None
