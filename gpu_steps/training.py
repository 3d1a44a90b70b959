"""The training run itself: TRL's SFTTrainer over a PEFT adapter, or over a whole model.

Invariants: the seed is set before the adapter is made; only completion tokens carry loss, and the
vocabulary head is computed for them alone; a checkpoint counts only when its
marker says that all of it was written.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl
from torch.utils.data import Sampler

from gpu_steps import methods, models
from gpu_steps.batching import LengthBatches
from gpu_steps.decoded import decoded_batch
from gpu_steps.environment import environment
from gpu_steps.loss import labelled_logits
from gpu_steps.lower_layers import can_keep, without_lower_layers
from gpu_steps.reporting import Reporter
from gpu_steps.rows import IGNORED, Example, Row, encode_rows
from gpu_steps.train import Train, checked_losses

_MARKER = "whole"
_STATE = "trainer_state.json"
_REPORT_SECONDS = 2.0


@dataclass(frozen=True)
class Run:
    """What a training run leaves: the model, a log entry a step, the result, a decoded batch."""

    model: Any
    log: list[dict[str, Any]]
    result: dict[str, Any]
    batch: list[dict[str, Any]]


class CompletionTrainer(trl.SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with batches of like length and a log of every step."""

    def __init__(self, *, order: Sampler[int], **options: Any) -> None:
        self.order = order
        self.started = time.monotonic()
        super().__init__(**options)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        del train_dataset
        return self.order

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # The library would load the adapter as float32, and go on with another precision.
        if not methods.load_checkpoint(self.model, Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = transformers.TrainerState.load_from_json(f"{resume_from_checkpoint}/{_STATE}")
        # TRL would count tokens from 0 again.
        self._total_train_tokens = state.log_history[-1]["num_tokens"]
        self.started -= state.log_history[-1]["seconds"]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss over the labelled positions; the head sees no others.

        TRL's fused head does the same in float32 tiles and recomputes them backward: on a CPU, with
        a handful of labelled positions a row, that took twice as long as the whole of the model.
        """
        labels = inputs.pop("labels")
        causal = methods.causal(self.accelerator.unwrap_model(model))
        labelled = labels[:, 1:] != IGNORED
        logits = labelled_logits(causal, inputs, labelled).float()
        total = torch.nn.functional.cross_entropy(logits, labels[:, 1:][labelled], reduction="sum")
        count = labelled.sum() if num_items_in_batch is None else num_items_in_batch
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        loss = total / count
        return (loss, logits) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds so far, counted on through an interruption."""
        logs["seconds"] = round(time.monotonic() - self.started, 3)
        super().log(logs, start_time)


class Progress(transformers.TrainerCallback):  # type: ignore[misc]
    """Reports steps as they pass and marks checkpoints that are whole."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.reported = 0.0

    def on_log(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Report the newest step, not more often than every two seconds."""
        del args, control, others
        now = time.monotonic()
        last = state.global_step >= state.max_steps
        entry = state.log_history[-1]
        if "loss" not in entry or (now - self.reported < _REPORT_SECONDS and not last):
            return
        self.reported = now
        text = f"step {state.global_step} of {state.max_steps}: loss {entry['loss']:.4f}"
        numbers = {"step": state.global_step, "steps": state.max_steps, "loss": entry["loss"]}
        self.reporter.progress(text, **numbers)

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Mark the checkpoint as whole; the trainer calls this after its last file."""
        del control, others
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARKER).touch()


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the highest step; removes those that a kill left half-written."""
    whole: dict[int, Path] = {}
    for found in folder.glob("checkpoint-*"):
        if (found / _MARKER).is_file():
            whole[int(found.name.removeprefix("checkpoint-"))] = found
        else:
            shutil.rmtree(found)
    return whole[max(whole)] if whole else None


def run(config: Train, rows: list[Row], checkpoints: Path, reporter: Reporter) -> Run:
    """Train, from the newest whole checkpoint in `checkpoints` if there is one."""
    models.quiet_libraries()
    if config.threads:
        torch.set_num_threads(config.threads)
    tokenizer = models.load_tokenizer(config.base_model)
    examples = encode_rows(rows, tokenizer, config.max_length, config.train_file)
    transformers.set_seed(config.seed)
    base = methods.load_base(config)
    models.prefer_fast_attention(base, max(len(example.input_ids) for example in examples))
    model = methods.trainable(base, config)
    columns: dict[str, list[Any]] = {
        "row": list(range(len(examples))),
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    checkpoint = newest_checkpoint(checkpoints)
    with _shortened(config, model, examples, reporter) as collate:
        trainer = CompletionTrainer(
            order=_order(config, examples),
            model=model,
            args=_arguments(config, checkpoints),
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=tokenizer,
            data_collator=collate,
            callbacks=[Progress(reporter)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        batch = decoded_batch(trainer.data_collator, columns, trainer.order, rows, tokenizer)
        if checkpoint is not None:
            reporter.log(f"going on from {checkpoint.name}")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    log = [_entry(found) for found in trainer.state.log_history if "loss" in found]
    result = _result(trainer, examples, log, checkpoint is not None)
    return Run(trainer.model, log, result, batch)


@contextmanager
def _shortened(
    config: Train, model: Any, examples: list[Example], reporter: Reporter
) -> Iterator[Callable[..., Any] | None]:
    """Leave the lower layers out for the block where that is exact; give the collator it needs."""
    upper = methods.upper_layers(config)
    count = model.config.get_text_config().num_hidden_layers - (upper or 10**9)
    # Noise on the embeddings changes what enters the lower layers in every epoch.
    if count <= 0 or config.neftune_alpha or not can_keep(model, examples):
        yield None
        return
    reporter.progress(f"computing the {count} layers below the adapter, once")
    with without_lower_layers(model, count, examples) as states:
        yield states.collate


def _order(config: Train, examples: list[Example]) -> LengthBatches:
    lengths = [len(example.input_ids) for example in examples]
    return LengthBatches(lengths, config.batch_size, config.seed)


def _arguments(config: Train, checkpoints: Path) -> Any:
    return trl.SFTConfig(
        output_dir=str(checkpoints),
        seed=config.seed,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.batch_size,
        warmup_steps=config.warmup_ratio,
        lr_scheduler_type=config.scheduler,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        neftune_noise_alpha=config.neftune_alpha,
        max_length=None,
        **methods.options(config),
        gradient_checkpointing=False,
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        save_total_limit=2,
        logging_steps=1,
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    entry = {key: found[key] for key in ("step", "loss", "learning_rate", "seconds")}
    return entry | {"epoch": round(found["epoch"], 4), "tokens": int(found["num_tokens"])}


def _result(
    trainer: CompletionTrainer, examples: list[Example], log: list[dict[str, Any]], resumed: bool
) -> dict[str, Any]:
    first, final = checked_losses(log)
    parameters = trainer.model.parameters()
    return {
        "steps": trainer.state.global_step,
        "first_loss": first,
        "final_loss": final,
        "tokens": log[-1]["tokens"],
        "seconds": log[-1]["seconds"],
        "examples": len(examples),
        "trained_tokens": sum(example.trained_tokens for example in examples),
        "trainable_parameters": sum(one.numel() for one in parameters if one.requires_grad),
        "resumed": resumed,
        "environment": environment(),
    }
