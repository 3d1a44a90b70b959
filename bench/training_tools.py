"""One training run of the bench of training, ours or TRL's; `python -m bench.training_tools JOB`.

`trl` is TRL as it comes: the LoRA example of its `scripts/sft.py` (two rows at a time, eight times
a step), the library's defaults for all else: float32 weights under bfloat16 autocast (bfloat16 for
QLoRA), gradient checkpointing, rows in random order. `trl-tuned` is what can be had from its
settings: bfloat16 weights, no gradient checkpointing, a batch in one piece, rows of like length.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TOOLS = ("ours", "trl", "trl-tuned")
# Ours in ways that it does not choose by itself on a CPU; asked for by name.
VARIANTS: dict[str, dict[str, Any]] = {"ours-packed": {"packing": True}}


@dataclass(frozen=True)
class Job:
    """A run: tool, model folder, rows file, LoRA shape as of `gpu_steps.train`, batch, options.

    `options` are further keys of `gpu_steps.train` for ours; peers do not see them.
    """

    tool: str
    base: str
    rows: str
    method: str
    lora: dict[str, Any]
    batch: int
    max_length: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Seconds after each step from the start of training, tokens that are not padding, losses.

    `cpu` is the processor's seconds of the whole run, loading included: more to go by than the
    clock on a machine that others use too. `gpu` is the most that the accelerator held, in GB.
    """

    seconds: list[float]
    tokens: int
    losses: list[float]
    cpu: float
    gpu: float | None


def measure(job: Job) -> Measured:
    """Train over the rows once."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    before = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        seconds, tokens, losses = (_trl if "trl" in job.tool else _ours)(job, Path(work))
    cpu = time.process_time() - before
    peak = torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else None
    return Measured(seconds, tokens, losses, cpu, peak)


def _ours(job: Job, work: Path) -> tuple[list[float], int, list[float]]:
    from gpu_steps import training
    from gpu_steps.config import parse
    from gpu_steps.reporting import RecordingReporter
    from gpu_steps.rows import read_rows
    from gpu_steps.train import Train

    content = {
        "base_model": job.base, "base_name": "bench", "base_digest": "", "train_file": job.rows,
        "output": str(work / "out"), "work": str(work), "seed": 1, "method": job.method,
        "lora": {"dropout": 0.0, **job.lora}, "epochs": 1, "learning_rate": 2e-4,
        "batch_size": job.batch, "max_length": job.max_length, "warmup_ratio": 0.0,
        "scheduler": "linear", "dtype": "bfloat16", "checkpoint_every": 10**6, **job.options,
        **VARIANTS.get(job.tool, {}),
    }  # fmt: skip
    config = parse(content, Train, "bench")
    found = training.run(config, read_rows(config.train_file), work / "ck", RecordingReporter())
    seconds = [entry["seconds"] for entry in found.log]
    return seconds, found.log[-1]["tokens"], [entry["loss"] for entry in found.log]


def _trl(job: Job, work: Path) -> tuple[list[float], int, list[float]]:
    import datasets
    import peft
    import torch
    import transformers
    import trl

    transformers.set_seed(1)
    tuned, quantised = job.tool == "trl-tuned", job.method == "qlora"
    layers = transformers.AutoConfig.from_pretrained(job.base).num_hidden_layers
    upper = job.lora.get("upper_layers")
    dtype = "bfloat16" if tuned or quantised else "float32"
    model = trl.ModelConfig(job.base, dtype=dtype, load_in_4bit=quantised)
    shape = (
        {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
        if tuned
        else {"gradient_accumulation_steps": max(1, job.batch // 2)}
    )
    trainer = trl.SFTTrainer(
        model=job.base,
        args=trl.SFTConfig(
            str(work),
            num_train_epochs=1,
            learning_rate=2e-4,
            per_device_train_batch_size=job.batch if tuned else min(2, job.batch),
            max_length=job.max_length,
            model_init_kwargs={"dtype": dtype},
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **shape,
        ),
        train_dataset=datasets.Dataset.from_list(
            [
                {key: row[key] for key in ("prompt", "completion")}
                for row in map(json.loads, Path(job.rows).read_text("utf-8").splitlines())
            ]
        ),
        quantization_config=trl.get_quantization_config(model),
        peft_config=peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=job.lora["r"],
            lora_alpha=job.lora["alpha"],
            target_modules=job.lora["target_modules"],
            layers_to_transform=None if upper is None else list(range(layers - upper, layers)),
        ),
    )
    clock = _clock(transformers.TrainerCallback)
    trainer.add_callback(clock)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return clock.seconds, int(log[-1]["num_tokens"]), [entry["loss"] for entry in log]


def _clock(base: Any) -> Any:
    class Clock(base):  # type: ignore[misc]
        """Takes the time after each step."""

        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.started = time.monotonic()

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.monotonic() - self.started)

    return Clock()


def _quiet() -> None:
    import datasets

    from gpu_steps import models

    warnings.simplefilter("ignore")
    models.quiet_libraries()
    datasets.disable_progress_bars()


def main() -> None:
    """Run the job of a JSON file and write what was measured beside it."""
    path = Path(sys.argv[1])
    job = Job(**json.loads(path.read_text(encoding="utf-8")))
    # Both tools wait for their threads the same way (see gpu_steps/program.py).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _quiet()
    path.with_suffix(".out").write_text(json.dumps(asdict(measure(job))), encoding="utf-8")


if __name__ == "__main__":
    main()
