"""TRL's trainer with our loss, our batches, and what a long run has to live through.

Invariants: a step that runs out of memory is done again in smaller micro-batches; nothing that is
not finite reaches the weights; every log entry holds what a resumed run needs to go on counting.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from torch.utils.data import Sampler

from gpu_steps import methods
from gpu_steps.checkpoints import mark_whole
from gpu_steps.collate import ROWS, Collator
from gpu_steps.config import StepError
from gpu_steps.loss import completion_loss
from gpu_steps.micro_batches import RandomState, or_none_if_out_of_memory, pieces
from gpu_steps.reporting import Reporter
from gpu_steps.rows import IGNORED

_STATE = "trainer_state.json"
_REPORT_SECONDS = 2.0


class CompletionTrainer(trl.SFTTrainer):  # type: ignore[misc]
    """Trains on batches of rows in the given order and logs every step.

    `record_ids` names the rows, `micro_batch` is how many are computed at a time, `started` is
    when the run began (`time.monotonic`).
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        order: Sampler[int],
        collate: Collator,
        record_ids: Sequence[str],
        micro_batch: int,
        reporter: Reporter,
        started: float,
        **options: Any,
    ) -> None:
        self.order = order
        self.collate = collate
        self.record_ids = record_ids
        self.micro_batch = micro_batch
        self.reporter = reporter
        self.started = started
        self.rows: list[int] = []
        super().__init__(data_collator=collate, callbacks=[Progress(reporter)], **options)
        self.remove_callback(transformers.PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        del train_dataset
        return self.order

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # The library would load the adapter as float32, and go on with another precision.
        if not methods.load_checkpoint(self.model, Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = transformers.TrainerState.load_from_json(f"{resume_from_checkpoint}/{_STATE}")
        last = state.log_history[-1]
        # TRL would count tokens from 0 again.
        self._total_train_tokens = last["num_tokens"]
        self.started -= last["seconds"]
        self.micro_batch = min(self.micro_batch, last["micro_batch"])

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Accumulate the gradients of one batch, in micro-batches that fit in memory."""
        self.rows = inputs.pop(ROWS).tolist()
        count = num_items_in_batch
        if count is None:
            count = (inputs["labels"][:, 1:] != IGNORED).sum()
        before = RandomState()
        while (loss := or_none_if_out_of_memory(lambda: self._step(model, inputs, count))) is None:
            model.zero_grad()
            before.restore()
            self._halve()
        self._total_train_tokens += sum(map(self._length, self.rows))
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        self._require_finite("loss", loss)
        return loss

    def _step(self, model: Any, inputs: dict[str, Any], count: Any) -> torch.Tensor:
        whole: torch.Tensor
        if self.micro_batch >= len(self.rows):
            whole = super().training_step(model, inputs, count)
            return whole
        losses = []
        for rows in pieces(self.rows, self.micro_batch):
            losses.append(super().training_step(model, self.collate.inputs(rows), count))
        return torch.stack(losses).sum()

    def _halve(self) -> None:
        step, tried = self.state.global_step + 1, min(self.micro_batch, len(self.rows))
        if tried == 1:
            row = max(self.rows, key=self._length)
            raise StepError(
                f"step {step}: out of memory with one row at a time (record "
                f"{self.record_ids[row]}: {self._length(row)} tokens); lower max_length and drop "
                "longer rows, set gradient_checkpointing, or take a machine with more memory."
            )
        self.micro_batch = tried // 2
        self.reporter.log(
            f"step {step}: out of memory with {tried} rows at a time; goes on with "
            f"{self.micro_batch}, {self.args.per_device_train_batch_size} rows still make a step"
        )

    def _length(self, row: int) -> int:
        return len(self.collate.examples[row].input_ids)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss over the labelled positions; the head sees no others.

        TRL's fused head does the same in float32 tiles and recomputes them backward: on a CPU, with
        a handful of labelled positions a row, that took twice as long as the whole of the model.
        """
        labels = inputs.pop("labels")
        causal = methods.causal(self.accelerator.unwrap_model(model))
        # Method full computes in the mixed precision that the whole model's forward would switch
        # on; the loss in chunks calls its parts. For the other methods this is nothing.
        with self.accelerator.autocast():
            loss = completion_loss(causal, inputs, labels, num_items_in_batch)
        return (loss, None) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        # Between the gradients and the optimiser: what is not finite stops before the weights.
        norm = super()._get_grad_norm(model, grad_norm)
        self._require_finite("gradient", norm)
        return norm

    def require_finite_weights(self) -> None:
        """Refuse an adapter that the last step spoilt."""
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                largest = parameter.detach().abs().max()
                self._require_finite("weight", largest, self.state.global_step)

    def _require_finite(self, what: str, value: Any, step: int | None = None) -> None:
        if math.isfinite(value):
            return
        ids = ", ".join(self.record_ids[row] for row in self.rows)
        raise StepError(
            f"step {step or self.state.global_step + 1}: a {what} is {float(value)}; the batch "
            f"held the records {ids}; look at these rows, or lower learning_rate."
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds so far, counted on through an interruption, and the micro-batch."""
        logs["seconds"] = round(time.monotonic() - self.started, 3)
        logs["micro_batch"] = self.micro_batch
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
        mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}")
