"""The gateway's description for programs (OpenAPI 3.1): `python -m serving.openapi` prints it.

The document is `openapi.yaml`, written by hand; tests hold it against the routes, and schemathesis
against the answers of a gateway that runs.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

PATH = "/openapi.json"


@cache
def document() -> dict[str, Any]:
    """Return the description; whoever changes it takes a copy."""
    text = Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


async def endpoint(_: Request) -> Response:
    """Answer with the description; it stands behind the guard like all else."""
    return JSONResponse(document())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=2) + "\n")
