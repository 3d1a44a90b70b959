"""The metrics of a real gateway in a whole stack, and the dashboard that shows them."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from serving.home import Home
from serving.local_key import local_key
from tests.serving.serving_support import MODEL, Running, bearer
from tests.serving.test_canary_metrics import judge, put_canary

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "gateway.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
ALERT_TESTS = DEPLOY / "prometheus" / "alerts_test.yaml"
LABELS = ("model", "version", "path", "cached", "status", "kind", "role", "reason")
# PromQL's own words where a name may stand; functions are known by their parenthesis.
WORDS = {"or", "and", "unless", "bool"}
# What scraping itself adds.
SCRAPED, TARGET = {"up"}, {"job", "instance"}
GROUPED = r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"


def scrape(running: Running) -> list[Metric]:
    url = f"http://127.0.0.1:{running.ports.metrics}/metrics"
    return list(text_string_to_metric_families(httpx.get(url, timeout=20).text))


def scrape_when_watched(running: Running, replicas: int) -> list[Metric]:
    """Return a scrape of when the gateway watches over so many replicas."""
    end = time.monotonic() + 20
    while len(values(families := scrape(running), "ftdm_replica_in_rotation")) < replicas:
        assert time.monotonic() < end
        time.sleep(0.05)
    return families


def values(families: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {
        tuple(one.labels[label] for label in LABELS if label in one.labels): one.value
        for one in samples
    }


def dashboard_expressions() -> list[str]:
    """Return every PromQL expression of the dashboard: panels, variables, annotations."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    targets = [one for panel in dashboard["panels"] for one in panel["targets"]]
    asked = [
        one["query"]["query"] for one in dashboard["templating"]["list"] if "definition" in one
    ]
    return [
        *(one["expr"] for one in targets),
        *(one["expr"] for one in dashboard["annotations"]["list"]),
        *(re.sub(r"label_values\((.*), *(\w+)\)", r"sum by (\2) (\1)", one) for one in asked),
    ]


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def names_and_labels(expression: str) -> tuple[set[str], set[str]]:
    """Return the metrics and the labels that a PromQL expression speaks of."""
    matched = " ".join(re.findall(r"\{([^}]*)\}", expression))
    grouped = " ".join(text for _, text in re.findall(GROUPED, expression))
    labels = set(re.findall(r"(\w+)\s*(?:=|!)", matched)) | set(re.findall(r"\w+", grouped))
    rest = re.sub(rf"\{{[^}}]*\}}|\[[^]]*\]|\boffset \w+|{GROUPED}", " ", expression)
    names = re.findall(r"(?<![\w$])([a-zA-Z_:][\w:]*)(?!\w)(?!\s*\()", rest)
    return set(names) - WORDS, labels


def test_the_dashboard_is_read_rightly() -> None:
    expression = 'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{b=~"$b", c!="d"}[5m]))) / y'
    assert names_and_labels(expression) == ({"x_bucket", "y"}, {"le", "a", "b", "c"})


def test_a_stack_shows_its_calls_its_pointer_and_its_replicas(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.put("v0002", replicas=1)
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "words=4"}]}
    key = bearer(local_key(running.home))
    with httpx.Client(base_url=running.url, timeout=30, headers=key) as client:
        the_trace_reaches_the_engine(client, chat)
        for body in (chat | {"model": f"{MODEL}@previous"}, chat | {"stream": True}):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        for name in ("made-up", f"{MODEL}@v0009", "also made up"):
            client.post("/v1/chat/completions", json=chat | {"model": name})
        client.post("/v1/chat/completions", json=chat | {"messages": [{"content": "status=400"}]})
    first, second = f"{MODEL}-v0001", f"{MODEL}-v0002"
    judge(running.home, put_canary(running.home, second, 0.9), 2.5, True)
    families = scrape_when_watched(running, 2)
    calls = values(families, "ftdm_gateway_request_seconds_count")
    path = "/v1/chat/completions"
    assert {key: number for key, number in calls.items() if path in key} == {
        (MODEL, second, path, "off", "2xx"): 2,
        (MODEL, second, path, "off", "4xx"): 1,
        (MODEL, first, path, "off", "2xx"): 1,
        ("-", "-", path, "off", "4xx"): 3,
    }
    assert values(families, "ftdm_gateway_errors_total") == {
        ("-", "-", "model_not_found"): 3,
        (MODEL, second, "replica_4xx"): 1,
    }
    assert values(families, "ftdm_gateway_first_token_seconds_count") == {(MODEL, second, "off"): 1}
    assert values(families, "ftdm_gateway_completion_tokens_total") == {
        (MODEL, first, "off"): 4,
        (MODEL, second, "off"): 8,
    }
    assert values(families, "ftdm_pointer") == {
        (MODEL, second, "current"): 1,
        (MODEL, first, "previous"): 1,
    }
    (moved,) = values(families, "ftdm_pointer_moved_time_seconds").items()
    assert moved[0] == (MODEL, second)
    assert 0 < time.time() - moved[1] < 600
    for name, value in (("accuracy", 0.9), ("drop_points", 2.5), ("passed", 1)):
        assert values(families, f"ftdm_canary_{name}") == {(MODEL, second): value}
    for name in ("ftdm_replicas", "ftdm_replicas_healthy"):
        assert values(families, name) == {(MODEL, first): 1, (MODEL, second): 1}
    assert values(families, "ftdm_replica_in_rotation") == {(MODEL, first): 1, (MODEL, second): 1}
    # Known before it happens, so that the first one is an increase.
    reasons = [
        (one, why) for one in (first, second) for why in ("dead", "slow", "wrong", "garbage")
    ]
    assert values(families, "ftdm_replicas_taken_out_total") == {
        (MODEL, version, reason): 0 for version, reason in reasons
    }
    assert values(families, "ftdm_cache_up") == {(): 1}
    running.supervisor.remove(f"{first}-replica-0")
    running.supervisor.remove("cache")
    Home.at(running.home).request_log.unlink()
    refused = httpx.post(f"{running.url}/v1/chat/completions", json=chat, headers=key)
    assert refused.status_code == 503
    gone, end = {(MODEL, first): 0, (MODEL, second): 1}, time.monotonic() + 10
    # The watch asks each replica twice a second, and later where the machine is busy.
    while values(worse := scrape(running), "ftdm_replicas_healthy") != gone:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert values(worse, "ftdm_cache_up") == {(): 0}
    unrecorded = {key: n for key, n in values(worse, "ftdm_gateway_errors_total").items()
                  if "not_recorded" in key}  # fmt: skip
    assert sum(unrecorded.values()) == 1
    the_dashboard_shows_only_what_is_there(families)


def test_every_alert_says_what_to_do_and_is_tried() -> None:
    tried = yaml.safe_load(ALERT_TESTS.read_text(encoding="utf-8"))["tests"]
    quiet: dict[str, set[bool]] = {}
    for one in (one for test in tried for one in test["alert_rule_test"]):
        quiet.setdefault(one["alertname"], set()).add(not one["exp_alerts"])
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["for"]
        # Once it fires, and once it keeps still.
        assert quiet[rule["alert"]] == {True, False}, rule["alert"]


def the_trace_reaches_the_engine(client: httpx.Client, chat: Mapping[str, object]) -> None:
    trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "rojo=1,congo=2"}
    answer = client.post("/v1/chat/completions", json=chat, headers=trace)
    arrived = answer.json()["headers"]
    assert {name: arrived[name] for name in trace} == trace


def the_dashboard_shows_only_what_is_there(families: list[Metric]) -> None:
    samples = [sample for family in families for sample in family.samples]
    labels_of: dict[str, set[str]] = {one.name: set() for one in samples}
    for one in samples:
        labels_of[one.name] |= set(one.labels)
    dashboard = dashboard_expressions()
    alerts = [rule["expr"] for rule in alert_rules()]
    assert len(dashboard) > 20
    assert len(alerts) > 5
    for expression in (*dashboard, *alerts):
        names, labels = names_and_labels(expression)
        assert names
        assert names - SCRAPED <= set(labels_of), names - set(labels_of)
        for name in names - SCRAPED:
            # `role` is the pointer's alone, which is joined with the replicas.
            known = labels_of[name] | TARGET | ({"role"} if "ftdm_pointer" in names else set())
            assert labels <= known, (name, labels - known)
