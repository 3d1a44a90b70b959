"""The training run itself: TRL's SFTTrainer over a PEFT adapter, or over a whole model.

Invariants: the seed is set before the adapter is made; a run goes on from the newest whole
checkpoint of its own settings and ends as if it had never been interrupted; an adapter that is
given back is finite.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from gpu_steps import methods, models
from gpu_steps.batching import LengthBatches
from gpu_steps.checkpoints import newest_checkpoint
from gpu_steps.collate import Collator, choose_attention, wants_packing
from gpu_steps.decoded import decoded_batch
from gpu_steps.environment import environment
from gpu_steps.lower_layers import can_keep, without_lower_layers
from gpu_steps.micro_batches import out_of_memory_explained
from gpu_steps.reporting import Reporter
from gpu_steps.rows import Example, Row, encode_rows
from gpu_steps.train import Train, checked_losses
from gpu_steps.trainer import CompletionTrainer

_REMEDY = "the model and the optimiser alone do not fit: take a smaller base model, or more memory"


@dataclass(frozen=True)
class Run:
    """What a training run leaves: the model, a log entry a step, the result, a decoded batch."""

    model: Any
    log: list[dict[str, Any]]
    result: dict[str, Any]
    batch: list[dict[str, Any]]


def run(config: Train, rows: list[Row], checkpoints: Path, reporter: Reporter) -> Run:
    """Train, from the newest whole checkpoint in `checkpoints` if there is one.

    Raises:
        StepError: a loss, gradient or weight is not finite, or not even one row fits in memory.
    """
    models.quiet_libraries()
    if config.threads:
        torch.set_num_threads(config.threads)
    tokenizer = models.load_tokenizer(config.base_model)
    examples = encode_rows(rows, tokenizer, config.max_length, config.train_file)
    with out_of_memory_explained("beside the batches", _REMEDY):
        transformers.set_seed(config.seed)
        base = methods.load_base(config)
        packed = wants_packing(config.packing, base)
        choose_attention(base, packed, max(len(example.input_ids) for example in examples))
        model = methods.trainable(base, config)
        if config.gradient_checkpointing:
            base.activation_checkpointing_enable({"use_reentrant": False})
        collate = Collator(examples, tokenizer.pad_token_id, packed)
        started = time.monotonic()
        checkpoint = newest_checkpoint(checkpoints)
        with _shortened(config, model, collate, reporter) as collate:
            trainer = CompletionTrainer(
                order=_order(config, examples),
                collate=collate,
                record_ids=[row.record_id for row in rows],
                micro_batch=config.micro_batch_size or config.batch_size,
                reporter=reporter,
                started=started,
                model=model,
                args=_arguments(config, checkpoints),
                train_dataset=_dataset(examples),
                processing_class=tokenizer,
            )
            batch = decoded_batch(collate, trainer.order, rows, tokenizer)
            if checkpoint is not None:
                reporter.log(f"going on from {checkpoint.name}")
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.require_finite_weights()
    log = [_entry(found) for found in trainer.state.log_history if "loss" in found]
    return Run(trainer.model, log, _result(trainer, log, checkpoint is not None), batch)


@contextmanager
def _shortened(
    config: Train, model: Any, collate: Collator, reporter: Reporter
) -> Iterator[Collator]:
    """Leave the lower layers out for the block where that is exact; give the collator it needs."""
    upper = methods.upper_layers(config)
    count = model.config.get_text_config().num_hidden_layers - (upper or 10**9)
    examples = list(collate.examples)
    # Noise on the embeddings changes what enters the lower layers in every epoch.
    if count <= 0 or config.neftune_alpha or not can_keep(model, examples):
        yield collate
        return
    reporter.progress(f"computing the {count} layers below the adapter, once")
    with without_lower_layers(model, count, examples) as states:
        yield replace(collate, states=states)


def _dataset(examples: list[Example]) -> Any:
    columns = {
        "row": list(range(len(examples))),
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    return datasets.Dataset.from_dict(columns)


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
        logging_nan_inf_filter=False,
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    kept = ("step", "loss", "learning_rate", "seconds", "micro_batch")
    entry = {key: found[key] for key in kept}
    return entry | {"epoch": round(found["epoch"], 4), "tokens": int(found["num_tokens"])}


def _result(trainer: CompletionTrainer, log: list[dict[str, Any]], resumed: bool) -> dict[str, Any]:
    first, final = checked_losses(log)
    examples = trainer.collate.examples
    parameters = trainer.model.parameters()
    return {
        "steps": trainer.state.global_step,
        "first_loss": first,
        "final_loss": final,
        "tokens": log[-1]["tokens"],
        "seconds": log[-1]["seconds"],
        "examples": len(examples),
        "trained_tokens": sum(example.trained_tokens for example in examples),
        "micro_batch": trainer.micro_batch,
        "packed": trainer.collate.packed,
        "trainable_parameters": sum(one.numel() for one in parameters if one.requires_grad),
        "resumed": resumed,
        "environment": environment(trainer.model, trainer.args.seed),
    }
