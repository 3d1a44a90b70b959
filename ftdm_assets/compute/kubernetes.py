"""Kubernetes Jobs, with the Kubernetes client as dagster-k8s patches it.

Dagster's own Pipes client makes a pod of a random name, follows it and deletes it: it can neither
join a job that is there nor leave one running when the connection is lost. So the Job and the way
it is followed are ours; client, labels and Pipes messages are Dagster's.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ftdm_assets.cluster.connection import (
    TIMEOUT,
    connected,
    may_pass,
    sentence,
    token_ran_out,
)
from ftdm_assets.compute import kubernetes_job
from ftdm_assets.compute.bucket_job import (
    failure_in_bucket,
    left_in_bucket,
    require,
    told_to_container,
)
from ftdm_assets.compute.job import Job, Phase, Seen
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import Staging
from ftdm_assets.compute_settings import KubernetesSettings
from gpu_steps.container import DIGESTS

_OVERLAP_SECONDS = 300  # Clocks differ, and streams are not strictly in order.


@dataclass
class _PodLog:
    """How far a pod's log was read: the newest time in it, and the lines since a little before."""

    newest: datetime | None = None
    lines: Counter[str] = field(default_factory=Counter)


class Kubernetes:
    """The operator of Jobs; see `Operator`."""

    service = "Kubernetes"
    noun = "Kubernetes job"
    console = "the cluster (kubectl describe job)"

    def __init__(self, settings: KubernetesSettings, staging: Staging) -> None:
        require("kubernetes", "boto3", "dagster_k8s")
        self._settings, self._staging = settings, staging
        self.poll_seconds = settings.poll_seconds
        self.patience_minutes = settings.patience_minutes
        self._client: Any = None
        self._read: dict[str, _PodLog] = {}

    def name(self, job: Job, attempt: int) -> str:
        """Return the name of an attempt."""
        return job.name(kubernetes_job.machine(self._settings), attempt)

    def start(self, job: Job, attempt: int) -> bool:
        """Ask for an attempt; return whether it was made."""
        from dagster_k8s.utils import get_common_labels
        from kubernetes.client import ApiException

        name = self.name(job, attempt)
        told = told_to_container(job, name, self._settings.output_kms_key)
        asked = kubernetes_job.document(job, self._settings, name, told)
        asked["metadata"]["labels"] = {**get_common_labels(), **asked["metadata"]["labels"]}
        try:
            self._api().batch_api.create_namespaced_job(
                self._settings.namespace, asked, _request_timeout=TIMEOUT
            )
        except ApiException as error:
            if error.status != 409:
                raise
            return False
        return True

    def look_up(self, name: str) -> Seen | None:
        """Say how far a job is; None if there is none, and none has left anything."""
        from kubernetes.client import ApiException

        try:
            found = self._api().batch_api.read_namespaced_job(
                name, self._settings.namespace, _request_timeout=TIMEOUT
            )
        except ApiException as error:
            if error.status != 404:
                raise
            return left_in_bucket(self._staging, name)
        seen = kubernetes_job.seen(found, self._pods(name), self._settings)
        if seen.phase is Phase.COMPLETED:
            return replace(seen, output=self._staging.url("output", name, DIGESTS))
        # A pod that is gone has taken its termination message along.
        left = failure_in_bucket(self._staging, name) if seen.interrupted else ""
        return replace(seen, reason=left, interrupted=False) if left else seen

    def stop(self, name: str) -> None:
        """Delete a job and, before it goes, its pod, which is given time to end."""
        from kubernetes.client import ApiException

        try:
            self._api().batch_api.delete_namespaced_job(
                name,
                self._settings.namespace,
                propagation_policy="Foreground",
                _request_timeout=TIMEOUT,
            )
        except ApiException as error:
            if error.status != 404:
                raise

    def passes(self, error: Exception) -> bool:
        """Say whether an error may pass by itself."""
        if token_ran_out(error):
            self._client = None
        return may_pass(error)

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Turn what the client raises into one sentence without a secret in it."""
        try:
            yield
        except Exception as error:
            said = sentence(error, "compute.kubernetes")
            if not said:
                raise
            raise StepFailedError(f"{what}: {said}") from None

    def lines(self, name: str) -> Iterator[str]:
        """Give the lines that have come into the logs of the job's pods since the last time."""
        from kubernetes.client import ApiException

        for pod in self._pods(name):
            try:
                yield from self._new_lines(pod.metadata.name)
            except ApiException as error:
                if error.status not in {400, 404}:  # Its container waits, or it is gone.
                    raise

    def _new_lines(self, pod: str) -> Iterator[str]:
        log = self._read.setdefault(pod, _PodLog())
        since: dict[str, int] = {}
        if log.newest is not None:
            age = time.time() - log.newest.timestamp()
            since = {"since_seconds": math.ceil(max(age, 0)) + _OVERLAP_SECONDS}
        answer = self._api().core_api.read_namespaced_pod_log(
            pod,
            self._settings.namespace,
            container=kubernetes_job.CONTAINER,
            timestamps=True,
            _preload_content=False,
            _request_timeout=TIMEOUT,
            **since,
        )
        before, log.lines = log.lines, Counter()
        for line in answer.data.decode(errors="replace").splitlines():
            log.lines[line] += 1
            stamp, _, text = line.partition(" ")
            with contextlib.suppress(ValueError):
                at = datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00")
                log.newest = max(log.newest or at, at)
            if log.lines[line] > before[line]:
                yield text

    def _pods(self, name: str) -> list[Any]:
        found = self._api().core_api.list_namespaced_pod(
            self._settings.namespace,
            label_selector=f"job-name={name}",
            _request_timeout=TIMEOUT,
        )
        return sorted(
            found.items, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name)
        )

    def _api(self) -> Any:
        """Return Dagster's client on the cluster of the settings."""
        if self._client is None:
            import kubernetes
            from dagster_k8s.client import DagsterKubernetesClient, PatchedApiClient

            named = self._settings
            client = connected(named.kubeconfig, named.context, PatchedApiClient)
            self._client = DagsterKubernetesClient.production_client(
                batch_api_override=kubernetes.client.BatchV1Api(client),
                core_api_override=kubernetes.client.CoreV1Api(client),
            )
        return self._client
