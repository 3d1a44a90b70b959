"""What is applied by hand (deploy/kubernetes): the API takes it, and it fits what ftdm makes."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serving.health import get_json
from serving.kubernetes.cluster import _PLURAL
from serving.kubernetes.naming import ENGINE_PORT, HOME
from serving.kubernetes.objects import API, CONFINED, ENGINE
from serving.kubernetes.replicas import EVIDENCE
from serving.stack_programs import GATEWAY_PORT, METRICS_PORT
from tests.serving.cluster_server import NAMESPACE, VERSION, loopback_hosts

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "kubernetes"
_PART = "app.kubernetes.io/component"


def documents(folder: Path = DEPLOY / "serving") -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        made for made in documents() if (made["kind"], made["metadata"]["name"]) == (kind, name)
    ]
    return dict(found.get("spec") or found)


def pod(kind: str, name: str) -> dict[str, Any]:
    return dict(one(kind, name)["template"]["spec"])


def callers(name: str) -> list[str]:
    (taken,) = one("NetworkPolicy", name)["ingress"]
    return [who["podSelector"]["matchLabels"][_PART] for who in taken["from"]]


def test_every_manifest_is_what_the_api_takes() -> None:
    found = list(documents(DEPLOY))
    assert len(found) > 15
    for made in found:
        kubernetes_validate.validate(made, VERSION, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**made, "spek": {}}, VERSION, strict=True)
    assert {made["metadata"]["namespace"] for made in documents()} == {NAMESPACE}


def test_selectors_meet_the_pods_that_they_mean() -> None:
    for made in documents():
        spec = made.get("spec", {})
        if "template" in spec:
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items()
            assert labels[_PART] == made["metadata"]["name"].removeprefix("ftdm-")
        if made["kind"] == "Service":
            assert spec["selector"][_PART] == made["metadata"]["name"].removeprefix("ftdm-")
            assert spec.get("type", "ClusterIP") == "ClusterIP"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Deployment", "ftdm-gateway"),
        ("Deployment", "ftdm-cache"),
        ("StatefulSet", "ftdm-database"),
    ],
)
def test_every_pod_is_confined_and_watched(kind: str, name: str) -> None:
    spec = pod(kind, name)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        assert container["securityContext"] == CONFINED
        assert container["image"].endswith("@sha256:DIGEST")
    for container in spec["containers"]:
        assert {"readinessProbe", "livenessProbe"} <= set(container)


def test_cache_and_database_are_reached_by_ours_only() -> None:
    assert callers("ftdm-cache") == ["gateway"]
    assert callers("ftdm-database") == ["gateway", "orchestrator"]
    out = one("NetworkPolicy", "ftdm-gateway")["egress"]
    reached = {
        rule["to"][0]["podSelector"]["matchLabels"][_PART]: rule["ports"][0]["port"]
        for rule in out
        if "to" in rule
    }
    assert reached == {ENGINE: ENGINE_PORT, "cache": 6379, "database": 5432}


def test_the_cache_keeps_nothing_and_never_grows() -> None:
    (container,) = pod("Deployment", "ftdm-cache")["containers"]
    arguments = " ".join(container["args"])
    assert "--appendonly no" in arguments
    assert "--maxmemory 1gb --maxmemory-policy allkeys-lru" in arguments
    assert container["args"][:2] == ["--save", ""]
    assert not pod("Deployment", "ftdm-cache").get("volumes")


def test_the_gateway_is_twice_there_and_sees_no_records() -> None:
    assert one("Deployment", "ftdm-gateway")["replicas"] >= 2
    assert one("PodDisruptionBudget", "ftdm-gateway")["maxUnavailable"] == 1
    (container,) = pod("Deployment", "ftdm-gateway")["containers"]
    seen = {mount["subPath"]: mount for mount in container["volumeMounts"] if "subPath" in mount}
    evidence = {f"store/{part}" for part in EVIDENCE}
    assert set(seen) == {"trust", "store/artifacts/model", *evidence}
    assert all(
        mount["readOnly"] and mount["mountPath"] == f"{HOME}/{part}" for part, mount in seen.items()
    )
    words = [*container["command"], *container["args"]]
    assert words[words.index("--port") + 1] == str(GATEWAY_PORT)
    assert words[words.index("--metrics-port") + 1] == str(METRICS_PORT)


def test_the_orchestrator_may_do_what_a_rollout_calls_and_no_more() -> None:
    role = one("Role", "ftdm-orchestrator")
    allowed = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    wanted = {
        (API[kind].rpartition("/")[0], plural): {"get", "create", "patch", "delete"}
        for kind, plural in _PLURAL.items()
    }
    assert allowed == {**wanted, ("", "pods"): {"list"}, ("", "pods/log"): {"get"}}


@pytest.mark.parametrize(
    ("base", "code"),
    [(f"host:5000/a:1@sha256:{'a' * 64}", 0), ("a:1", 1), (f"a@sha256:{'a' * 64}", 1)],
)
@pytest.mark.parametrize("name", ["PYTHON_BASE", "ENGINE_BASE"])
def test_the_container_file_refuses_a_base_without_a_digest(
    name: str, base: str, code: int
) -> None:
    text = (ROOT / "deploy" / "serving.Containerfile").read_text()
    (check,) = re.findall(rf"RUN (printf '%s' \"\$\{{{name}\}}\".*?)\nWORKDIR", text, re.DOTALL)
    done = subprocess.run(["sh", "-c", check], env={name: base, "PATH": os.environ["PATH"]})
    assert done.returncode == code


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What the container file copies, and nothing else of the project."""
    text = (ROOT / "deploy" / "serving.Containerfile").read_text()
    folder = tmp_path / "opt"
    for source, target in re.findall(r"^COPY (\S+) (\./\S+)$", text, re.MULTILINE):
        if (ROOT / source).is_dir():
            unread = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, folder / target, ignore=unread, dirs_exist_ok=True)
        else:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, folder / target)
    return folder


def test_an_image_has_all_that_its_programs_import(image: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); "
        "import serving.admitted; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before}); "
        "import serving.gateway; print(serving.gateway.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(image)],
        capture_output=True,
        text=True,
        check=True,
    )
    modules, found = done.stdout.splitlines()
    assert Path(found).is_relative_to(image)
    foreign = {name for name in modules.split() if name not in sys.stdlib_module_names}
    # What the engine's image installs, and what belongs to it.
    installed = {"cryptography", "_cffi_backend", "_openssl", "rfc8785"}
    assert foreign == {"serving", "ftdm_assets", *installed}


@pytest.mark.alone
def test_the_gateway_of_the_manifest_answers(image: Path, tmp_path: Path) -> None:
    spec = pod("Deployment", "ftdm-gateway")
    address = loopback_hosts(str(tmp_path))("gateway")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("requests.secret", "cache.secret"):
        (secrets / name).write_text("5" * 64)
    (tmp_path / "ftdm").mkdir()

    def here(text: str) -> str:
        for word in ("/secrets", "/ftdm"):
            text = text.replace(f"{word}/", f"{tmp_path}{word}/")
        return {"/ftdm": str(tmp_path / "ftdm"), "python3": sys.executable}.get(
            text, text.replace("0.0.0.0", address)
        )

    (first,), (container,) = spec["initContainers"], spec["containers"]
    subprocess.run([here(word) for word in first["command"]], check=True)
    assert (tmp_path / "ftdm/log/requests.secret").stat().st_mode & 0o777 == 0o600
    argv = [here(word) for word in (*container["command"], *container["args"])]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(image)}
    process = subprocess.Popen(argv, env=environment, cwd="/")
    probe = container["readinessProbe"]["httpGet"]
    try:
        end = time.monotonic() + 60
        while get_json(f"http://{address}:{probe['port']}{probe['path']}")[0] != HTTPStatus.OK:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        assert get_json(f"http://{address}:{METRICS_PORT}/metrics")[0] == HTTPStatus.OK
    finally:
        process.terminate()
        assert process.wait(60) == 0
