"""The connection to a Kubernetes cluster: which one, which errors pass, and what is said of others.

Invariant: no sentence holds a token or another secret of the kubeconfig.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

TIMEOUT = (5, 30)  # To connect, to be answered.
_PASSING = {401, 408, 429, 500, 502, 503, 504}  # 401: a token that has run out is read anew.
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


def connected(kubeconfig: str | None, context: str | None, client: type[Any]) -> Any:
    """Return a client of the cluster that we run in, or else of the one that is named.

    Args:
        kubeconfig: Left out, and no context: the cluster we run in, else KUBECONFIG or the usual
            file.
        context: Left out: the kubeconfig's present one.
        client: `kubernetes.client.ApiClient`, or what is made of it.
    """
    import kubernetes

    configuration = kubernetes.client.Configuration()
    if kubeconfig is None and context is None and _IN_CLUSTER in os.environ:
        kubernetes.config.load_incluster_config(client_configuration=configuration)
    else:
        # The client reads the variable once, when it is imported.
        named = kubeconfig or os.environ.get("KUBECONFIG")
        file = str(Path(named).expanduser()) if named else None
        kubernetes.config.load_kube_config(file, context, client_configuration=configuration)
    return client(configuration)


def token_ran_out(error: Exception) -> bool:
    """Say whether the connection has to be made anew."""
    return getattr(error, "status", None) == 401


def may_pass(error: Exception) -> bool:
    """Say whether an error may pass by itself."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError, SSLError

    if isinstance(error, ApiException):
        return error.status in _PASSING
    return isinstance(error, HTTPError) and not isinstance(
        getattr(error, "reason", error), SSLError
    )


def sentence(error: Exception, section: str) -> str:
    """Return what a client's error says, in one sentence; nothing for an error of another kind.

    Args:
        error: What was raised.
        section: The settings that name the cluster, such as `compute.kubernetes`.
    """
    from kubernetes.client import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError

    if isinstance(error, ApiException):
        return f"Kubernetes answered {_answer(error)}"
    if isinstance(error, HTTPError):
        return f"Kubernetes cannot be reached ({error})"
    if isinstance(error, ConfigException):
        return f"no cluster is named ({error}); set {section}.kubeconfig and context, or KUBECONFIG"
    return ""


def _answer(error: Any) -> str:
    """Return the API's own sentence."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return f"{error.status} {error.reason}: {json.loads(error.body)['message']}"
    return f"{error.status} {error.reason}"
