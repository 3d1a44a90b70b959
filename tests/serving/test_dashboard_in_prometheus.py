"""The dashboard's queries and the alert rules in a real Prometheus that scrapes a real gateway.

Runs where `prometheus` is on the PATH. Without it, names and labels are held against the exposition
(`test_metrics_of_a_stack`), but nothing reads PromQL.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.health import free_port
from tests.serving.serving_support import MODEL, Running, under_load
from tests.serving.test_canary_metrics import judge, put_canary
from tests.serving.test_metrics_of_a_stack import ALERTS, dashboard_expressions

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(PROMETHEUS is None, reason="no `prometheus` on the PATH"),
]
PATIENCE_S = 60.0


@contextmanager
def prometheus(folder: Path, metrics_port: int) -> Iterator[str]:
    """Run a Prometheus that scrapes every second, and return its address."""
    assert PROMETHEUS is not None
    target = {"targets": [f"127.0.0.1:{metrics_port}"]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "ftdm-gateway", "static_configs": [target]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    command = [PROMETHEUS, f"--config.file={folder / 'prometheus.yaml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            # It answers 503 to queries until it has read its data folder.
            until(lambda: httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200)
            yield url
        finally:
            running.terminate()
            running.wait(20)


def asked(url: str, path: str, **parameters: str) -> Any:
    answer = httpx.get(f"{url}/api/v1/{path}", params=parameters, timeout=20, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end
        time.sleep(0.5)


def in_prometheus(expression: str) -> str:
    """Return an expression as Grafana sends it: every model, the last ten seconds."""
    return expression.replace("$__rate_interval", "10s").replace("$model", ".+")


def has_values(url: str, expression: str) -> bool:
    found = asked(url, "query", query=expression)["result"]
    return any(one["value"][1] != "NaN" for one in found)


def test_every_query_finds_data_and_the_rules_are_evaluated(
    running: Running, tmp_path: Path
) -> None:
    running.put("v0001", replicas=1)
    running.put("v0002", replicas=1)
    judge(running.home, put_canary(running.home, f"{MODEL}-v0002", 0.8), 10.5, False)
    with (
        prometheus(tmp_path, running.ports.metrics) as url,
        under_load(running, count=1),
        under_load(running, count=1, stream=True),
        under_load(running, count=1, content="status=500"),
        under_load(running, count=1, content="words=1", cache="on"),
    ):
        empty = [in_prometheus(one) for one in dashboard_expressions()]
        assert len(empty) > 20

        def all_found() -> bool:
            empty[:] = [one for one in empty if not has_values(url, one)]
            return not empty

        try:
            until(all_found)
        except AssertionError:
            pytest.fail(f"no data for {empty}")
        rules = [one for group in asked(url, "rules")["groups"] for one in group["rules"]]
        assert {one["name"] for one in rules if one["health"] == "ok"} == {
            one["alert"] for group in read_rules() for one in group["rules"]
        }
        until(lambda: alerting(url) >= {"FtdmCallsFail", "FtdmCanaryFell"})
        assert not alerting(url) & {"FtdmCacheDown", "FtdmNoReplica", "FtdmReplicaOut"}
        running.supervisor.remove("cache")
        running.supervisor.remove(f"{MODEL}-v0002-replica-0")
        until(lambda: alerting(url) >= {"FtdmCacheDown", "FtdmNoReplica", "FtdmReplicaOut"})


def read_rules() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return groups


def alerting(url: str) -> set[str]:
    """Return the alerts that fire, or would if it went on."""
    return {one["labels"]["alertname"] for one in asked(url, "alerts")["alerts"]}
