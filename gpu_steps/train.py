"""Trains an adapter, or a whole model, on chat-formatted rows, on completions only.

Invariants: the adapter's bytes follow from the configuration, the base model, the rows and the
machine's arithmetic, whether or not the run was interrupted; nothing in the result folder names a
path; a configuration resumes only from its own checkpoints.
"""

import hashlib
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from gpu_steps.config import ConfigError
from gpu_steps.output import whole_folder, write_json, write_json_lines
from gpu_steps.program import run_program
from gpu_steps.reporting import Reporter

ALL_LINEAR = "all-linear"
LORA, QLORA, FULL = "lora", "qlora", "full"
METHODS = (LORA, QLORA, FULL)


@dataclass(frozen=True)
class Lora:
    """The adapter's shape.

    `target_modules` are names, or "all-linear" for every linear layer but the vocabulary head.
    `upper_layers` N adapts the last N layers only, null adapts all.
    """

    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...] | str
    upper_layers: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that PEFT would take and misunderstand."""
        if self.r < 1 or not self.target_modules:
            raise ValueError("lora needs r of at least 1 and one target module.")
        if isinstance(self.target_modules, str) and self.target_modules != ALL_LINEAR:
            raise ValueError(f"lora.target_modules must be a list of names or {ALL_LINEAR!r}.")
        if self.upper_layers is not None and self.upper_layers < 1:
            raise ValueError("lora.upper_layers must be at least 1, or null for all layers.")


@dataclass(frozen=True)
class Train:
    """The step's configuration.

    `base_name` goes into the adapter's configuration, `base_digest` into the checkpoints' name.
    `method` is lora, qlora or full; `lora` is the shape of the adapter, null for full.
    `work` keeps checkpoints, one every `checkpoint_every` steps, until the step is done; where it
    outlives the machine (SageMaker: /opt/ml/checkpoints), so does the run. `batch_size` rows make
    an optimisation step, computed `micro_batch_size` at a time; null: all at once, or as many as
    fit in memory. `packing` puts rows end to end instead of padding them; null: where that is
    faster. `gradient_checkpointing` computes activations twice to hold fewer of them.
    `neftune_alpha` adds noise to the embeddings, `threads` limits the CPU threads; null: neither.
    """

    base_model: Path
    base_name: str
    base_digest: str
    train_file: Path
    output: Path
    work: Path
    seed: int
    method: str
    lora: Lora | None
    epochs: float
    learning_rate: float
    batch_size: int
    max_length: int
    warmup_ratio: float
    scheduler: str
    dtype: str
    checkpoint_every: int
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    neftune_alpha: float | None = None
    threads: int | None = None
    micro_batch_size: int | None = None
    packing: bool | None = None
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}.")
        if (self.lora is None) != (self.method == FULL):
            wanted = "null" if self.method == FULL else "the adapter's shape"
            raise ValueError(f"lora must be {wanted} with method {self.method!r}.")
        for name in ("epochs", "learning_rate", "batch_size", "max_length", "checkpoint_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)!r}.")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(
                "micro_batch_size must be at least 1, or null for all rows of a batch."
            )


def fingerprint(config: Train) -> str:
    """Digest of all that decides the adapter: settings and rows, no paths."""
    settings = asdict(config)
    for path in ("base_model", "train_file", "output", "work"):
        del settings[path]
    rows = hashlib.sha256(config.train_file.read_bytes()).hexdigest()
    text = json.dumps({"settings": settings, "rows": rows}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def train(config: Train, reporter: Reporter) -> None:
    """Train; write `output`: adapter, batch.json, train_log.jsonl, packages.txt, result.json."""
    from gpu_steps import methods, training  # torch and TRL: not before the configuration is right
    from gpu_steps.environment import package_list
    from gpu_steps.rows import read_rows

    rows = read_rows(config.train_file)
    checkpoints = config.work / f"checkpoints-{fingerprint(config)[:16]}"
    with whole_folder(config.output) as folder:
        run = training.run(config, rows, checkpoints, reporter)
        methods.save(run.model, config, folder / "adapter")
        write_json(folder / "batch.json", run.batch)
        write_json_lines(folder / "train_log.jsonl", run.log)
        (folder / "packages.txt").write_text(package_list(), encoding="utf-8")
        write_json(folder / "result.json", run.result)
    shutil.rmtree(checkpoints, ignore_errors=True)


def checked_losses(log: list[dict[str, float]]) -> tuple[float, float]:
    """Mean loss of the first and of the last tenth of the steps."""
    if not log:
        raise ConfigError("the training took no step; raise epochs or give more rows.")
    tenth = max(1, len(log) // 10)
    losses = [entry["loss"] for entry in log]
    return sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth


if __name__ == "__main__":
    sys.exit(run_program("train", Train, train))
