"""The example of `docs/oidc.md` fits the gateway: its port, its paths, the id that it keeps."""

import json
import re
import uuid
from pathlib import Path
from typing import Any

import yaml

from serving import openapi
from serving.request_recorder import _REQUEST_ID
from serving.stack_programs import GATEWAY_PORT

DOCUMENT = Path(__file__).parents[2] / "docs" / "oidc.md"


def example() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_the_proxy_leads_to_the_gateway_and_not_to_its_administration() -> None:
    static = example()["static_resources"]
    assert f'"port_value": {GATEWAY_PORT}' in json.dumps(static["clusters"][0])
    (chain,) = static["listeners"][0]["filter_chains"]
    routes = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
    passed = [one["match"]["prefix"] for one in routes if "route" in one]
    assert routes[0]["match"]["prefix"] == "/admin"
    assert set(passed) == {"/v1/"}
    asked = [path for path in openapi.document()["paths"] if path.startswith("/v1/")]
    assert len(asked) == 4
    for one in routes:
        if "route" in one:
            (added,) = one["request_headers_to_add"]
            assert added["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
            assert added["header"]["key"] == "authorization"


def test_the_id_of_the_example_is_kept_by_the_gateway() -> None:
    value = re.search(r'value: "(.*x-request-id.*)"', DOCUMENT.read_text(encoding="utf-8"))
    assert value is not None
    told = re.sub(r"%REQ\(.*?\)%", lambda _: str(uuid.uuid4()), value[1])
    assert _REQUEST_ID.fullmatch(told)
