"""Names in the cluster: of a version's objects, from the version alone.

Invariants:
- every name is a DNS label that begins with a letter and leaves room: a StatefulSet's is at most 52
  characters long, since its pods carry it in a label together with a revision;
- two versions never share a name: what is cut from a model's name, or written otherwise, is told
  apart by a digest of it.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from serving import names

ENGINE_PORT = 8000
HOME = PurePosixPath("/ftdm")
CODE = PurePosixPath("/opt/ftdm")
PYTHON = "python3"
# What whoever asks replicas carries in this label, and nobody else may.
PART_LABEL, VERSION_LABEL = "app.kubernetes.io/component", "ftdm/version"
_SLUG, _MARK = 20, 10

# A service's or a pod's host, from its name.
Hosts = Callable[[str], str]


def cluster_hosts(namespace: str, domain: str) -> Hosts:
    """Return how hosts are called in the cluster's own DNS."""
    return lambda name: f"{name}.{namespace}.svc.{domain}"


def object_name(model: str, version: str) -> str:
    """Return what a version's objects are called: `ftdm-MODEL-MARK-vNNNN`."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower())[:_SLUG].strip("-")
    mark = hashlib.sha256(model.encode()).hexdigest()[:_MARK]
    return f"ftdm-{slug}-{mark}-{names.short_version(model, version)}"


def replica_url(hosts: Hosts, name: str, index: int) -> str:
    """Return the address of a replica, which a pod that takes its place has too."""
    return f"http://{hosts(f'{name}-{index}.{name}')}:{ENGINE_PORT}"
