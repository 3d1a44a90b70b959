"""Clients of AWS services: endpoint, region and credentials come from the usual AWS environment.

Invariant: every request has a timeout and a bounded number of tries.
"""

import functools
import os
from typing import Any

CONNECT_S, READ_S = 5, 30
TRIES = 3


def client(service: str) -> Any:
    """Return a client of a service, such as ``s3``; one for each state of the AWS environment."""
    named = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return _client_of(service, tuple(sorted(named.items())))


@functools.lru_cache(maxsize=8)
def _client_of(service: str, _: tuple[tuple[str, str], ...]) -> Any:
    """Make a client, which takes a second; another environment asks for another client."""
    import boto3
    from botocore.config import Config

    retries = {"mode": "standard", "max_attempts": TRIES}
    return boto3.session.Session().client(
        service, config=Config(connect_timeout=CONNECT_S, read_timeout=READ_S, retries=retries)
    )


def status(error: Any) -> int:
    """Return the HTTP status of a client's error, 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code(error: Any) -> str:
    """Return the service's own code of a client's error, such as ``AccessDeniedException``."""
    return str(error.response.get("Error", {}).get("Code", ""))
