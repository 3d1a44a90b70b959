"""The gateway's OpenAPI description: it names every route, and every answer is what it says."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from serving import openapi
from serving.gateway import GatewaySettings, create_app
from serving.guard import OPEN_PATHS
from tests.serving.gateway_process import GatewayProcess, gateway_process
from tests.serving.serving_support import MODEL, bearer

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("home")) as one:
        yield one


def test_it_describes_every_route_and_no_other(tmp_path: Path) -> None:
    served = {
        (one.path, method.lower())
        for one in create_app(GatewaySettings(tmp_path)).routes
        if isinstance(one, Route)
        for method in one.methods or ()
        if method != "HEAD"
    }
    paths = openapi.document()["paths"]
    assert {(path, method) for path, item in paths.items() for method in item} == served


def test_only_open_paths_need_no_key() -> None:
    document = openapi.document()
    assert document["security"] == [{"key": []}]
    without = {
        path
        for path, item in document["paths"].items()
        for operation in item.values()
        if operation.get("security") == []
    }
    assert without == OPEN_PATHS


def test_it_is_printed() -> None:
    command = [sys.executable, "-m", "serving.openapi"]
    printed = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert json.loads(printed.stdout) == openapi.document()


@pytest.mark.alone
@pytest.mark.parametrize(
    ("known", "examples"), [pytest.param(True, 25, id="known"), pytest.param(False, 10, id="any")]
)
def test_every_answer_is_what_the_description_says(
    gate: GatewayProcess, tmp_path: Path, known: bool, examples: int
) -> None:
    """Schemathesis asks with all its checks; with known names, requests come through to answers."""
    answer = httpx.get(f"{gate.url}{openapi.PATH}", headers=bearer(gate.key))
    assert answer.json() == openapi.document()
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(_known(answer.json()) if known else answer.json()))
    # A caller that gives no time gets 504: that is no bug of the server.
    (tmp_path / "schemathesis.toml").write_text(
        '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 504]\n'
    )
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", str(path), "--url", gate.url, "--checks", "all"),
            *("--header", f"Authorization: Bearer {gate.admin_key}"),
            *(
                "--max-examples",
                str(examples),
                "--generation-deterministic",
                "--no-color",
                "--request-timeout",
                "60",
            ),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in gate.log.read_text()


def _known(document: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    schemas = changed["components"]["schemas"]
    schemas["Asked"]["enum"] = schemas["Name"]["enum"] = [MODEL]
    schemas["Version"]["enum"] = ["v0001", "v0002"]
    return changed
