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
    """A version's pods, by their names; see `serving.waiting.Watched`.

    A pod without a node is no hopeless one: a node may come. It is told as what is waited for.
    """

    def __init__(self, cluster: Cluster, chosen: dict[str, str]) -> None:
        """Watch the pods with these labels."""
        self._cluster, self._chosen = cluster, chosen
        self._pods: dict[str, Any] = {}

    @property
    def pause_s(self) -> float:
        """As the settings say."""
        return self._cluster.poll_s

    def look(self) -> None:
        """Ask for all of the pods anew, in one call."""
        self._pods = {pod.metadata.name: pod for pod in self._cluster.pods(self._chosen)}

    def ready(self, name: str) -> bool:
        """Say whether the cluster calls a pod ready."""
        pod = self._pods.get(name)
        conditions = pod.status.conditions if pod else None
        return any(one.type == "Ready" and one.status == "True" for one in conditions or ())

    def hopeless(self, name: str) -> str:
        """Return why a pod cannot come up; see `Watched`."""
        pod = self._pods.get(name)
        for status in statuses(pod) if pod else ():
            waiting = status.state.waiting if status.state else None
            reason = waiting.reason if waiting else ""
            if reason == _CRASHES and status.restart_count + 1 < _LIVES:
                continue
            if reason in _HOPELESS:
                return _HOPELESS[reason]
        return ""

    def state(self, name: str) -> str:
        """Return what the cluster says that a pod waits for."""
        pod = self._pods.get(name)
        return str(state(pod)) if pod else "it has no pod yet"

    def last_words(self, name: str) -> str:
        """Return a pod's state and the end of the log of the container that is at fault."""
        told = [self.state(name)]
        if self.ready(name):
            told.append(_OUT_OF_REACH)
        pod = self._pods.get(name)
        container = _at_fault(pod) if pod else None
        if container is not None:
            previous = container.restart_count > 0
            log = self._cluster.log(name, container.name, previous=previous)
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
