"""Training survives kills and a lack of memory, and stops at what is not finite."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_steps.checkpoints import mark_whole, newest_checkpoint
from gpu_steps.config import StepError, parse
from gpu_steps.reporting import RecordingReporter
from gpu_steps.train import Train, train
from tests.gpu_steps.gpu_runs import CuttingReporter, StepCutError, adapter_bytes, log_of, run
from tests.gpu_steps.gpu_tiny import END, TARGETS, row, write_lines

Make = Callable[..., dict[str, Any]]
HERE = Path(__file__).parent
DROPOUT = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": TARGETS}


@pytest.fixture(autouse=True)
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_steps.trainer._REPORT_SECONDS", 0.0)


@pytest.fixture
def zygote() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.gpu_steps.gpu_zygote"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def start(zygote: "subprocess.Popen[str]", path: Path) -> int:
    assert zygote.stdin
    assert zygote.stdout
    zygote.stdin.write(f"{path}\n")
    zygote.stdin.flush()
    return int(zygote.stdout.readline())


def ended(zygote: "subprocess.Popen[str]") -> int:
    assert zygote.stdout
    return int(zygote.stdout.readline())


def kill_at(step: int, number: int, log: Path) -> None:
    """Kill the process as soon as its log shows this step or a later one."""
    ends = time.monotonic() + 200
    while time.monotonic() < ends:
        lines = log.read_text().splitlines() if log.exists() else []
        steps = [int(line.split()[2]) for line in lines if line.startswith("train: step ")]
        if steps and steps[-1] >= step:
            os.kill(number, signal.SIGKILL)
            return
        time.sleep(0.005)
    raise AssertionError(log.read_text())


def untimed(settings: dict[str, Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in log_of(settings)]


def test_killed_at_five_random_steps_it_ends_with_the_same_bytes(
    train_settings: Make, tmp_path: Path, zygote: "subprocess.Popen[str]"
) -> None:
    """Each run of the chain goes on from the one before; dropout, noise, gradient accumulation."""
    shape = {"epochs": 10, "micro_batch_size": 3, "neftune_alpha": 5.0, "lora": DROPOUT}
    whole = train_settings(output=str(tmp_path / "a"), work=str(tmp_path / "w1"), **shape)
    cut = train_settings(output=str(tmp_path / "b"), work=str(tmp_path / "w2"), **shape)
    path = tmp_path / "step.json"
    path.write_text(json.dumps(whole))
    start(zygote, path)
    assert ended(zygote) == 0
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(cut))
    log = tmp_path / "cut.json.log"
    for step in sorted(random.Random(4).sample(range(3, 45), 5)):
        log.unlink(missing_ok=True)
        kill_at(step, start(zygote, path), log)
        assert ended(zygote) == signal.SIGKILL
        assert not (tmp_path / "b").exists()
    start(zygote, path)
    assert ended(zygote) == 0
    assert "going on from checkpoint-" in log.read_text()
    assert adapter_bytes(cut) == adapter_bytes(whole)
    assert untimed(cut) == untimed(whole)
    assert len(log_of(whole)) == 10 * 8


@pytest.mark.parametrize("spoilt", ["cut short", "missing", "unmarked"])
def test_a_checkpoint_that_was_half_copied_is_not_used(tmp_path: Path, spoilt: str) -> None:
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"state")
        mark_whole(folder)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    newest = tmp_path / "checkpoint-10"
    if spoilt == "cut short":
        (newest / "optimizer.pt").write_bytes(b"sta")
    else:
        (newest / {"missing": "optimizer.pt", "unmarked": "whole"}[spoilt]).unlink()
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert not newest.exists()
    assert newest_checkpoint(tmp_path / "nothing") is None


def long_rows(path: Path, count: int) -> Path:
    rows = [row(number) for number in range(count)]
    for number, one in enumerate(rows):
        prompt = f"<|im_start|>user\n{number} {'card ' * 440}{END}\n<|im_start|>assistant\n"
        rows[number] = one | {"prompt": prompt}
    return write_lines(path, rows)


def test_allocations_that_really_fail_halve_the_micro_batch(
    train_settings: Make, tmp_path: Path
) -> None:
    """The limit is the kernel's, on address space; the failure is torch's CPU allocator's."""
    shape = {
        "train_file": str(long_rows(tmp_path / "long.jsonl", 16)), "epochs": 2, "batch_size": 8,
        "max_length": 512, "dtype": "float32", "lora": DROPOUT | {"dropout": 0.0},
    }  # fmt: skip
    paths = {}
    for name, micro in (("warm", 1), ("limited", None)):
        settings = train_settings(output=str(tmp_path / name), micro_batch_size=micro, **shape)
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(settings))
    command = [sys.executable, str(HERE / "gpu_limited_memory.py")]
    done = subprocess.run(
        [*command, str(paths["warm"]), str(paths["limited"]), "150"],
        capture_output=True, text=True, timeout=200, env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "out of memory with 8 rows at a time; goes on with 4, 8 rows still" in done.stderr
    result = json.loads((tmp_path / "limited" / "result.json").read_text())
    assert result["micro_batch"] in (1, 2, 4)
    small = train_settings(
        output=str(tmp_path / "small"), micro_batch_size=result["micro_batch"], **shape
    )
    run(small)
    # Whatever halved it a second time, and when, is the machine's.
    assert_same_but_for_rounding(settings, small)


def fail_above(monkeypatch: pytest.MonkeyPatch, rows: int, step: int = 1) -> None:
    """Let the model's trunk fail as CUDA does when it gets more rows than that, from a step on."""
    import torch

    from gpu_steps.trainer import CompletionTrainer

    forward = CompletionTrainer.compute_loss

    def limited(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> Any:
        held = len(inputs["labels"])
        loss = forward(self, model, inputs, *rest, **options)
        if self.state.global_step + 1 >= step and held > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss

    monkeypatch.setattr(CompletionTrainer, "compute_loss", limited)


def test_out_of_memory_midway_keeps_rows_steps_and_result(
    train_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = DROPOUT | {"dropout": 0.0}
    shape = {"dtype": "float32", "epochs": 2, "lora": plain}
    roomy = train_settings(output=str(tmp_path / "roomy"), **shape)
    run(roomy)
    small = train_settings(output=str(tmp_path / "small"), micro_batch_size=1, **shape)
    run(small)
    fail_above(monkeypatch, rows=1, step=9)
    tight = train_settings(output=str(tmp_path / "tight"), **shape)
    reporter = RecordingReporter()
    with pytest.raises(StepCutError):
        train(parse(tight, Train, "step.json"), CuttingReporter(12))
    train(parse(tight, Train, "step.json"), reporter)
    assert not [line for line in reporter.lines if "out of memory" in line]  # it remembers
    assert [entry["micro_batch"] for entry in log_of(tight)] == [4] * 8 + [1] * 8
    for other in (roomy, small):
        assert_same_but_for_rounding(tight, other)


def assert_same_but_for_rounding(settings: dict[str, Any], others: dict[str, Any]) -> None:
    """The same steps over the same rows; sums were taken in another order."""
    import torch
    from safetensors.torch import load_file

    for one, two in zip(log_of(settings), log_of(others), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-3)
        for same in ("step", "tokens", "epoch", "learning_rate"):
            assert one[same] == two[same]
    first, second = (
        load_file(Path(one["output"]) / "adapter" / "adapter_model.safetensors")
        for one in (settings, others)
    )
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0.02, atol=2e-3)


def test_not_even_one_row_fits(train_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_above(monkeypatch, rows=0, step=3)
    settings = train_settings()
    with pytest.raises(StepError, match=r"step 3: out of memory with one row at a time \(record r"):
        run(settings)
    assert not Path(settings["output"]).exists()


def test_a_model_that_does_not_fit_is_said_to(
    train_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr("gpu_steps.models.load_model", full)
    with pytest.raises(StepError, match="the model and the optimiser alone do not fit"):
        run(train_settings())


def batch_of_step(settings: dict[str, Any], step: int) -> list[str]:
    """The record ids of a step, from the order that the sampler is defined to have."""
    from gpu_steps import models
    from gpu_steps.batching import batch_order
    from gpu_steps.rows import encode_rows, read_rows

    path, size = Path(settings["train_file"]), settings["batch_size"]
    rows = read_rows(path)
    tokenizer = models.load_tokenizer(Path(settings["base_model"]))
    lengths = [len(one.input_ids) for one in encode_rows(rows, tokenizer, 4096, path)]
    epoch, place = divmod(step - 1, math.ceil(len(rows) / size))
    order = batch_order(lengths, size, settings["seed"], epoch)[place * size : (place + 1) * size]
    return [rows[at].record_id for at in order]


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_a_poisoned_row_stops_the_run_and_is_among_those_named(
    train_settings: Make, tiny_model: Path, tmp_path: Path, micro_batch_size: int | None
) -> None:
    """One row alone has a token whose embedding is infinite."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    model.config.tie_word_embeddings = False
    (number,) = tokenizer("~", add_special_tokens=False)["input_ids"]
    model.get_input_embeddings().weight.data[number] = math.inf
    model.save_pretrained(tmp_path / "poisoned")
    tokenizer.save_pretrained(tmp_path / "poisoned")
    rows = [row(number) for number in range(30)]
    rows[17]["prompt"] = rows[17]["prompt"].replace("card", "~")
    settings = train_settings(
        base_model=str(tmp_path / "poisoned"),
        train_file=str(write_lines(tmp_path / "rows.jsonl", rows)),
        micro_batch_size=micro_batch_size,
    )
    step = next(step for step in range(1, 9) if "r17" in batch_of_step(settings, step))
    named = ", ".join(batch_of_step(settings, step))
    with pytest.raises(StepError) as stopped:
        run(settings)
    assert str(stopped.value).startswith(f"step {step}: a loss is nan; the batch held the records ")
    assert f"the records {named}; look at" in str(stopped.value)


def test_a_learning_rate_that_blows_up_stops_at_the_next_step(train_settings: Make) -> None:
    settings = train_settings(learning_rate=1e30, warmup_ratio=0.0)
    with pytest.raises(StepError, match=r"step 2: a (loss|gradient) is (nan|inf)") as stopped:
        run(settings)
    assert ", ".join(batch_of_step(settings, 2)) in str(stopped.value)


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    train_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from gpu_steps.trainer import CompletionTrainer

    step = CompletionTrainer.training_step

    def spoilt(self: Any, model: Any, inputs: Any, count: Any = None) -> Any:
        loss = step(self, model, inputs, count)
        if self.state.global_step == 4:
            next(one for one in model.parameters() if one.requires_grad).grad[0, 0] = torch.inf
        return loss

    monkeypatch.setattr(CompletionTrainer, "training_step", spoilt)
    settings = train_settings()
    with pytest.raises(StepError, match=r"step 5: a gradient is (inf|nan)") as stopped:
        run(settings)
    assert ", ".join(batch_of_step(settings, 5)) in str(stopped.value)


def test_a_last_step_that_spoils_the_weights_leaves_no_adapter(train_settings: Make) -> None:
    settings = train_settings(learning_rate=1e39, warmup_ratio=0.0, batch_size=30, epochs=1)
    with pytest.raises(
        StepError, match=r"step 1: a weight is (inf|nan); the batch held the records r"
    ):
        run(settings)
    assert not Path(settings["output"]).exists()
