"""Where production runs, as the settings say, and how the graph asks it.

Invariant: the rest of the graph does not know which platform it is: this machine, with the stack of
`ftdm up`, or a cluster, whose gateway, cache and database are there before (docs/kubernetes.md).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ftdm_assets.cluster import pods
from ftdm_assets.cluster.connection import connected
from ftdm_assets.compute.bucket_job import require
from ftdm_assets.graph.plan import Reading
from ftdm_assets.serving_settings import ServingPodSettings, ServingSettings
from serving import deployment, stack
from serving.admission import Admission
from serving.api_keys import KEY_VARIABLE
from serving.cold import StartTerms
from serving.home import DATABASE_VARIABLE
from serving.local_key import local_key
from serving.platform import Platform
from serving.stack_programs import Ports, gateway_url
from serving.supervised import Supervised


@dataclass(frozen=True)
class Gateway:
    """The address that callers use, and the key with which the graph asks there."""

    base_url: str
    api_key: str


def endpoint(serving: ServingSettings) -> str:
    """Return the root of the OpenAI-style API of production."""
    if serving.platform == "kubernetes" and serving.kubernetes is not None:
        return f"{serving.kubernetes.gateway_url}/v1"
    return f"{gateway_url(Ports.from_environment())}/v1"


def gateway(reading: Reading) -> Gateway:
    """Return where the graph asks production, and with which key.

    On this machine that is the home's own key. On a cluster it is the one of FTDM_API_KEY, or else
    the home's own, which the gateway knows since both read the same database.
    """
    serving = reading.model.settings.serving
    named = os.environ.get(KEY_VARIABLE, "").strip() if serving.platform == "kubernetes" else ""
    return Gateway(endpoint(serving), named or local_key(reading.home))


def prepared(reading: Reading, admission: Admission, say: Callable[[str], None]) -> Platform:
    """Return the platform, with all that should run on it running.

    Raises:
        ValueError: the cluster's gateway could not know what is deployed.
        StepFailedError: the cluster's client is not installed.
    """
    serving = reading.model.settings.serving
    if serving.platform == "local":
        stack.up(reading.home, admission=admission, progress=say)
        return platform(reading, say)
    if not os.environ.get(DATABASE_VARIABLE):
        raise ValueError(
            f"serving.platform: kubernetes needs {DATABASE_VARIABLE}, the database that the "
            "cluster's gateway reads pointer and keys from: set it to the same address here"
        )
    place = platform(reading, say)
    problems = deployment.resume(
        reading.home,
        admission=admission,
        timeout_s=serving.startup_timeout_s,
        progress=say,
        platform=place,
        model=reading.model.name,
    )
    for problem in problems.values():
        say(f"warning: {problem}")
    return place


def platform(reading: Reading, say: Callable[[str], None]) -> Platform:
    """Return where versions run, as it is; nothing is started.

    Raises:
        StepFailedError: the cluster's client is not installed.
    """
    serving = reading.model.settings.serving
    if serving.platform == "local" or serving.kubernetes is None:
        return Supervised(reading.home)
    return _cluster(reading, serving.kubernetes, serving.startup_timeout_s, say)


def start_terms(reading: Reading, say: Callable[[str], None]) -> StartTerms:
    """Return where a rollback starts what is not warm, and how long that may take.

    Raises:
        StepFailedError: the cluster's client is not installed.
    """
    return StartTerms(platform(reading, say), reading.model.settings.serving.startup_timeout_s)


def _cluster(
    reading: Reading, settings: ServingPodSettings, startup_s: float, say: Callable[[str], None]
) -> Platform:
    require("kubernetes", "kubernetes", setting="serving.platform")
    # Imported when it is used: a machine that serves by itself has no client of a cluster.
    from kubernetes.client import ApiClient

    from serving.kubernetes.cluster import Cluster
    from serving.kubernetes.naming import cluster_hosts
    from serving.kubernetes.place import Place
    from serving.kubernetes.platform import Kubernetes

    connect = partial(connected, settings.kubeconfig, settings.context, ApiClient)
    patience = 60 * settings.patience_minutes
    place = Place(
        namespace=settings.namespace,
        engine_image=settings.engine_image,
        home_claim=settings.home_claim,
        disk=settings.disk,
        engine_pod=pods.placement(settings),
        resources=pods.resources(settings),
        threads=_threads(settings.cpu),
        startup_s=startup_s,
        labels=settings.labels,
    )
    cluster = Cluster(connect, settings.namespace, patience, settings.poll_seconds, say)
    hosts = cluster_hosts(settings.namespace, settings.cluster_domain)
    return Kubernetes(reading.home, place, cluster, hosts)


def _threads(cpu: str | None) -> int:
    """Return how many whole cores a quantity of the API is; one at least."""
    if cpu is None:
        return 1
    cores: Any = float(cpu[:-1]) / 1000 if cpu.endswith("m") else cpu
    try:
        return max(1, int(float(cores)))
    except ValueError:
        return 1
