"""A version's objects as data: the API's own schema, names, confinement, and who reaches whom."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdm_assets.provenance.trust import trust_key
from serving.admission import AdmissionError, StoreAdmission
from serving.admitted import Asked
from serving.engine import command_for, engine_command
from serving.kubernetes.naming import (
    CODE,
    ENGINE_PORT,
    cluster_hosts,
    object_name,
    replica_url,
)
from serving.kubernetes.place import Place
from serving.kubernetes.policies import policies
from serving.kubernetes.replicas import EVIDENCE, replica_objects
from serving.sleep import with_sleep_mode
from serving.versions import Replica, Version
from tests.provenance.sealed import sealed
from tests.serving.cluster_server import VERSION
from tests.serving.serving_support import digest_of

SOURCE = PurePosixPath("store/artifacts/model/abc")
PLACE = Place(
    namespace="serving",
    engine_image="e@sha256:" + "a" * 64,
    home_claim="ftdm-home",
    disk="20Gi",
    engine_pod={
        "nodeSelector": {"gpu": "L40S"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    },
    resources={"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "1"}},
    labels={"cost-centre": "7"},
)
MODELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
NUMBERS = st.integers(1, 10**9 - 1)


def version(model: str = "support_tickets", number: int = 7, replicas: int = 2) -> Version:
    full = f"{model}-v{number:04d}"
    name, hosts = object_name(model, full), cluster_hosts("serving", "cluster.local")
    return Version(
        *(model, full, digest_of(full), Path("/home/store"), f"{model}@v{number:04d}-abc", 2048),
        "bfloat16",
        tuple(
            Replica(f"{name}-{index}", replica_url(hosts, name, index), ENGINE_PORT, None)
            for index in range(replicas)
        ),
    )


def objects(one: Version, place: Place = PLACE) -> list[dict[str, Any]]:
    return [*policies(one, place), *replica_objects(one, place, SOURCE)]


def only(kind: str, one: Version | None = None, place: Place = PLACE) -> dict[str, Any]:
    found = {made["kind"]: made["spec"] for made in objects(one or version(), place)}
    return dict(found[kind])


def pod_of(one: Version | None = None, place: Place = PLACE) -> dict[str, Any]:
    return dict(only("StatefulSet", one, place)["template"]["spec"])


def test_every_object_is_what_the_api_takes() -> None:
    made = objects(version())
    kinds = ["NetworkPolicy", "Service", "StatefulSet", "PodDisruptionBudget"]
    assert [one["kind"] for one in made] == kinds
    for one in made:
        kubernetes_validate.validate(one, VERSION, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**one, "spek": {}}, VERSION, strict=True)


@settings(deadline=None, max_examples=40)
@given(model=MODELS, number=NUMBERS, replicas=st.integers(1, 99))
def test_names_and_labels_are_short_enough(model: str, number: int, replicas: int) -> None:
    one = version(model, number, replicas)
    name = object_name(model, one.version)
    # The controller's revision of a StatefulSet is `NAME-` and ten characters, in a label.
    assert len(name) <= 52
    for label in (name, one.replicas[-1].name):
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", label)
    for made in objects(one):
        kept = [made["metadata"]["labels"]]
        kept += (
            [made["spec"]["template"]["metadata"]["labels"]] if "template" in made["spec"] else []
        )
        for value in (value for labels in kept for value in labels.values()):
            assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)
    host = one.replicas[-1].url.split("//")[1].split(":")[0]
    assert all(len(part) <= 63 for part in host.split("."))


@given(st.tuples(MODELS, NUMBERS), st.tuples(MODELS, NUMBERS))
def test_two_versions_never_share_a_name(one: tuple[str, int], two: tuple[str, int]) -> None:
    names = {object_name(model, f"{model}-v{number:04d}") for model, number in (one, two)}
    assert len(names) == len({one, two})


def test_names_that_are_cut_or_written_otherwise_are_told_apart() -> None:
    models = ["a_b", "a-b", "a.b", "A_B", "m" * 63, "m" * 64]
    assert len({object_name(model, f"{model}-v0001") for model in models}) == len(models)


def test_a_version_changes_nothing_of_another() -> None:
    one, two = version(number=7), version(number=8)
    keys = [{(made["kind"], made["metadata"]["name"]) for made in objects(v)} for v in (one, two)]
    assert not keys[0] & keys[1]
    chosen = [only("Service", v)["selector"] for v in (one, two)]
    assert chosen[0] != chosen[1]
    assert chosen[0] == only("StatefulSet", one)["selector"]["matchLabels"]


@pytest.mark.parametrize("sleeps", [False, True])
def test_the_engine_in_a_pod_is_started_with_the_same_flags(tmp_path: Path, sleeps: bool) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (tmp_path / "python").symlink_to("/bin/true")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTDM_SERVING_PYTHON", str(tmp_path / "python"))
        here = engine_command(
            folder, "m@v0007-abc", ENGINE_PORT, cores=[0], max_model_len=2048, dtype="bfloat16"
        )
    one = replace(version(), served_name="m@v0007-abc")
    if sleeps:
        here = with_sleep_mode(here)
        one = replace(one, replicas=tuple(replace(each, sleeps=True) for each in one.replicas))
    pod = pod_of(one)["containers"][0]
    first = pod["command"].index("-m") - 1
    meant = {
        "python3": str(tmp_path / "python"),
        "0.0.0.0": "127.0.0.1",
        "/ftdm/model": str(folder),
    }
    assert [meant.get(word, word) for word in pod["command"][first:]] == list(here.argv)
    told = {item["name"]: item["value"] for item in pod["env"]}
    assert here.env.items() <= told.items()
    # The mode opens endpoints: only who is asked to sleep has it.
    assert ("--enable-sleep-mode" in pod["command"]) is sleeps
    assert told.get("VLLM_SERVER_DEV_MODE") == ("1" if sleeps else None)


def test_an_engine_starts_behind_admission_only() -> None:
    one = version()
    pod = pod_of()
    (bring,), (serve,) = pod["initContainers"], pod["containers"]
    asked = [one.version, one.digest]
    assert bring["command"][2:3] == [str(CODE / "serving/kubernetes/bring.py")]
    assert serve["command"][2:3] == [str(CODE / "serving/admitted.py")]
    assert bring["command"][3:] == ["/ftdm", "/ftdm/trust", *asked, "/source", "/ftdm/model"]
    assert serve["command"][3:8] == ["/ftdm", "/ftdm/trust", *asked, "/ftdm/model"]
    root = Path(__file__).resolve().parents[2]
    for container in (bring, serve):
        assert (root / container["command"][2].removeprefix(f"{CODE}/")).is_file()


def test_a_pod_sees_no_records_and_writes_nothing_to_the_home() -> None:
    pod = pod_of()
    (volume,) = [one for one in pod["volumes"] if one["name"] == "home"]
    assert volume["persistentVolumeClaim"] == {"claimName": "ftdm-home", "readOnly": True}
    for container in (*pod["initContainers"], *pod["containers"]):
        mounts = [one for one in container["volumeMounts"] if one["name"] == "home"]
        assert all(one["readOnly"] for one in mounts)
        parts = {one["subPath"] for one in mounts} - {str(SOURCE)}
        assert parts == {"trust", *(f"store/{part}" for part in EVIDENCE)}
    (model,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "model"]
    assert model["readOnly"]


def test_what_a_pod_sees_of_the_store_is_enough_to_admit_and_to_refuse(tmp_path: Path) -> None:
    made = sealed(tmp_path / "home")
    trust_key(tmp_path / "home" / "trust", made.key.public)
    facts = made.root.manifest.facts
    folder = made.store.find("model", str(facts["merged_digest"])).path
    for part in EVIDENCE:
        shutil.copytree(tmp_path / "home/store" / part, tmp_path / "pod/store" / part)
    asked = Asked(str(facts["version"]), str(facts["merged_digest"]), folder)
    admission = StoreAdmission(tmp_path / "pod", tmp_path / "home/trust")
    admission.to_start(asked)
    shutil.rmtree(tmp_path / "pod/store/seals")
    with pytest.raises(AdmissionError, match="is not signed"):
        admission.to_start(asked)


def test_every_pod_is_confined() -> None:
    pod = pod_of()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "hostNetwork" not in pod
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for container in pod["containers"]:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_settings_of_the_pod_reach_the_engines() -> None:
    engine = pod_of()
    assert engine["nodeSelector"] == {"gpu": "L40S"}
    assert engine["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert engine["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    tries = pod_of(place=replace(PLACE, startup_s=601))["containers"][0]["startupProbe"]
    assert tries["periodSeconds"] * tries["failureThreshold"] >= 601


def test_only_gateway_and_orchestrator_reach_a_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = version()
    policy = only("NetworkPolicy", one)
    set_of = only("StatefulSet", one)["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= set_of.items()
    (taken,) = policy["ingress"]
    assert taken["ports"] == [{"port": ENGINE_PORT, "protocol": "TCP"}]
    # Pods of this namespace, by their label; no replica is a caller of another.
    part = "app.kubernetes.io/component"
    assert taken["from"] == [
        {"podSelector": {"matchLabels": {part: name}}} for name in ("gateway", "orchestrator")
    ]
    assert set_of[part] == "engine"
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    # Spans go where the variable says, and nothing else goes out.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    traced = only("NetworkPolicy", one)["egress"]
    assert traced[1] == {"ports": [{"port": 4318, "protocol": "TCP"}]}


def test_the_service_is_headless_and_not_open_to_the_world() -> None:
    service = only("Service")
    assert service["clusterIP"] == "None"
    # The gateway asks a pod itself whether it is well, and has to find it for that.
    assert service["publishNotReadyAddresses"] is True
    assert "type" not in service


def test_rolling_out_needs_neither_the_graph_nor_dagster() -> None:
    program = (
        "import sys, serving.kubernetes.platform; "
        "print(*[one for one in sys.modules if one.startswith(('dagster', 'ftdm_assets.graph'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b""


def test_the_command_of_a_pod_looks_at_nothing_of_this_machine() -> None:
    made = command_for(
        Path("/nowhere"), "n", 1, python="p", host="h", threads=3, max_model_len=8, dtype="auto"
    )
    assert made.argv[:5] == ("p", "-m", "vllm.entrypoints.cli.main", "serve", "/nowhere")
    assert (made.base_url, made.env["OMP_NUM_THREADS"]) == ("http://h:1", "3")
