"""Trains a LoRA adapter on chat-formatted rows, on completions only.

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
    `work` keeps checkpoints, one every `checkpoint_every` steps, until the step is done.
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
    lora: Lora
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

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        if self.method != "lora":
            raise ValueError(f"method must be 'lora', not {self.method!r}.")
        for name in ("epochs", "learning_rate", "batch_size", "max_length", "checkpoint_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)!r}.")


def fingerprint(config: Train) -> str:
    """Digest of all that decides the adapter: settings and rows, no paths."""
    settings = asdict(config)
    for path in ("base_model", "train_file", "output", "work"):
        del settings[path]
    rows = hashlib.sha256(config.train_file.read_bytes()).hexdigest()
    text = json.dumps({"settings": settings, "rows": rows}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def train(config: Train, reporter: Reporter) -> None:
    """Train and write `output`: adapter/, train_log.jsonl, packages.txt and result.json."""
    from gpu_steps import training  # torch and TRL: not before the configuration is right
    from gpu_steps.environment import package_list
    from gpu_steps.rows import read_rows

    rows = read_rows(config.train_file)
    checkpoints = config.work / f"checkpoints-{fingerprint(config)[:16]}"
    with whole_folder(config.output) as folder:
        run = training.run(config, rows, checkpoints, reporter)
        training.save_adapter(run.model, config.base_name, folder / "adapter")
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
