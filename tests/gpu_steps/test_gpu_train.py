"""Training: the loss covers completions only, and the bytes do not depend on interruptions."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpu_steps.config import ConfigError, parse
from gpu_steps.reporting import RecordingReporter
from gpu_steps.train import Train, fingerprint, train
from tests.gpu_steps.gpu_tiny import TARGETS, row, write_lines

Make = Callable[..., dict[str, Any]]
UPPER = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": TARGETS, "upper_layers": 2}


class StepCutError(Exception):
    """Stands for whatever ends a run before its time."""


@dataclass
class CuttingReporter:
    """Ends the run at the first report of step `at` or later."""

    at: int

    def log(self, line: str) -> None:
        del line

    def progress(self, text: str, **numbers: float) -> None:
        del text
        if numbers.get("step", 0) >= self.at:
            raise StepCutError


@pytest.fixture(autouse=True)
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_steps.training._REPORT_SECONDS", 0.0)


def run(settings: dict[str, Any]) -> dict[str, Any]:
    train(parse(settings, Train, "step.json"), RecordingReporter())
    found: dict[str, Any] = json.loads((Path(settings["output"]) / "result.json").read_text())
    return found


def adapter_bytes(settings: dict[str, Any]) -> dict[str, bytes]:
    folder = Path(settings["output"]) / "adapter"
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def log_of(settings: dict[str, Any]) -> list[dict[str, Any]]:
    text = (Path(settings["output"]) / "train_log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_learns_and_says_what_it_did(train_settings: Make) -> None:
    settings = train_settings(dtype="float32", epochs=6)
    result = run(settings)
    assert result["steps"] == 6 * 8
    assert result["examples"] == 30
    assert result["final_loss"] < 0.5 * result["first_loss"]
    log = log_of(settings)
    assert [entry["step"] for entry in log] == list(range(1, 49))
    assert all(math.isfinite(entry["loss"]) for entry in log)
    assert log[-1]["tokens"] == result["tokens"] > 6 * result["trained_tokens"]
    assert log[-1]["seconds"] == result["seconds"]
    assert result["environment"]["decides"]["threads"] >= 1
    assert not list(Path(settings["work"]).glob("checkpoints-*"))


def test_result_folder_names_no_path_and_the_base_by_name(
    train_settings: Make, tmp_path: Path
) -> None:
    settings = train_settings(epochs=1)
    run(settings)
    files = adapter_bytes(settings)
    assert sorted(files) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "example/tiny"
    assert config["target_modules"] == sorted(TARGETS)
    for file in Path(settings["output"]).rglob("*"):
        if file.is_file():
            assert str(tmp_path).encode() not in file.read_bytes()


def test_loss_is_that_of_the_completions_alone(train_settings: Make, tiny_model: Path) -> None:
    import torch

    from gpu_steps import models
    from gpu_steps.rows import read_rows

    settings = train_settings(dtype="float32", batch_size=30, epochs=1, warmup_ratio=0.0)
    run(settings)
    model = models.load_model(tiny_model, "float32").eval()
    tokenizer = models.load_tokenizer(tiny_model)
    total, count = 0.0, 0
    for one in read_rows(Path(settings["train_file"])):
        prompt = tokenizer(one.prompt, add_special_tokens=False)["input_ids"]
        answer = tokenizer(one.completion, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        total += float(
            torch.nn.functional.cross_entropy(logits, torch.tensor(answer)) * len(answer)
        )
        count += len(answer)
    assert log_of(settings)[0]["loss"] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("lora", [{}, {"lora": UPPER}], ids=["all-layers", "upper-layers"])
def test_cut_and_resumed_run_equals_an_unbroken_one(
    train_settings: Make, tmp_path: Path, lora: dict[str, Any]
) -> None:
    whole = train_settings(output=str(tmp_path / "whole"), work=str(tmp_path / "w1"), **lora)
    assert run(whole)["resumed"] is False
    cut = train_settings(output=str(tmp_path / "cut"), work=str(tmp_path / "w2"), **lora)
    for step in (7, 17):
        with pytest.raises(StepCutError):
            train(parse(cut, Train, "step.json"), CuttingReporter(step))
        assert not Path(cut["output"]).exists()
    assert run(cut)["resumed"] is True
    assert adapter_bytes(cut) == adapter_bytes(whole)
    untimed = [{k: v for k, v in entry.items() if k != "seconds"} for entry in log_of(cut)]
    assert untimed == [{k: v for k, v in e.items() if k != "seconds"} for e in log_of(whole)]
    seconds = [entry["seconds"] for entry in log_of(cut)]
    assert seconds == sorted(seconds)


def test_a_checkpoint_that_was_half_written_is_not_used(
    train_settings: Make, tmp_path: Path
) -> None:
    whole = train_settings(output=str(tmp_path / "whole"), work=str(tmp_path / "w1"))
    run(whole)
    cut = train_settings(output=str(tmp_path / "cut"), work=str(tmp_path / "w2"))
    with pytest.raises(StepCutError):
        train(parse(cut, Train, "step.json"), CuttingReporter(12))
    newest = max((tmp_path / "w2").glob("checkpoints-*/checkpoint-10"))
    (newest / "whole").unlink()
    (newest / "adapter_model.safetensors").write_bytes(b"half")
    run(cut)
    assert adapter_bytes(cut) == adapter_bytes(whole)


def test_another_seed_or_other_rows_do_not_resume_from_these_checkpoints(
    train_settings: Make, tmp_path: Path
) -> None:
    one = parse(train_settings(), Train, "step.json")
    assert fingerprint(one) == fingerprint(
        parse(train_settings(output=str(tmp_path / "elsewhere")), Train, "step.json")
    )
    assert fingerprint(one) != fingerprint(parse(train_settings(seed=8), Train, "step.json"))
    before = fingerprint(one)
    write_lines(one.train_file, [row(number) for number in range(29)])
    assert fingerprint(one) != before


def test_seed_decides_the_bytes(train_settings: Make, tmp_path: Path) -> None:
    outcomes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = train_settings(output=str(tmp_path / name), seed=seed, epochs=1)
        run(settings)
        outcomes.append(adapter_bytes(settings))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] != outcomes[2]


def test_upper_layers_are_the_only_ones_adapted(train_settings: Make) -> None:
    from safetensors import safe_open

    settings = train_settings(lora=UPPER, epochs=1)
    run(settings)
    file = Path(settings["output"]) / "adapter" / "adapter_model.safetensors"
    with safe_open(file, "pt") as tensors:
        names = list(tensors.keys())
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"2", "3"}
    assert len(names) == 2 * 2 * len(TARGETS)


def test_all_linear_means_every_linear_layer_but_the_head(
    train_settings: Make, tmp_path: Path
) -> None:
    named = train_settings(output=str(tmp_path / "named"), epochs=1)
    run(named)
    lora = named["lora"] | {"target_modules": "all-linear"}
    run(train_settings(output=str(tmp_path / "all"), epochs=1, lora=lora))
    weights = [
        tmp_path / name / "adapter" / "adapter_model.safetensors" for name in ("named", "all")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_layers_left_out_change_nothing_but_the_time(
    train_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file

    short = train_settings(lora=UPPER, dtype="float32", output=str(tmp_path / "short"))
    run(short)
    monkeypatch.setattr("gpu_steps.lower_layers._LARGEST_STATES", 0)
    full = train_settings(lora=UPPER, dtype="float32", output=str(tmp_path / "full"))
    run(full)
    for one, other in zip(log_of(short), log_of(full), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert one["tokens"] == other["tokens"]
    weights, others = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
        for name in ("short", "full")
    )
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, others[name], rtol=0.05, atol=5e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": UPPER | {"upper_layers": 5}}, "upper_layers is 5, but the model has 4 layers"),
        (
            {"lora": UPPER | {"target_modules": ["c_attn"]}},
            "no linear module is named 'c_attn'",
        ),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"base_model": "nowhere"}, "nowhere: is no model"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    train_settings: Make, changes: dict[str, Any], message: str
) -> None:
    settings = train_settings(**changes)
    with pytest.raises(ConfigError, match=message):
        run(settings)
    assert not Path(settings["output"]).exists()


def test_an_existing_result_is_never_overwritten(train_settings: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists and is never overwritten"):
        run(train_settings())


@pytest.mark.e2e
def test_killed_process_resumes_to_the_same_bytes(train_settings: Make, tmp_path: Path) -> None:
    def command(settings: dict[str, Any]) -> list[str]:
        path = tmp_path / "step.json"
        path.write_text(json.dumps(settings))
        return [sys.executable, "-m", "gpu_steps.train", "--config", str(path)]

    environment = os.environ | {"PYTHONHASHSEED": "1"}
    whole = train_settings(output=str(tmp_path / "a"), work=str(tmp_path / "w1"), epochs=8)
    subprocess.run(command(whole), check=True, timeout=200, env=environment)
    cut = train_settings(output=str(tmp_path / "b"), work=str(tmp_path / "w2"), epochs=8)
    process = subprocess.Popen(command(cut))
    deadline = time.monotonic() + 120
    while not list((tmp_path / "w2").glob("*/checkpoint-*/whole")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "b").exists()
    subprocess.run(command(cut), check=True, timeout=200)
    assert adapter_bytes(cut) == adapter_bytes(whole)
