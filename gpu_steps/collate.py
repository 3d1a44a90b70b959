"""Makes a model's inputs from rows: padded to the longest, or packed end to end.

Invariants: packed rows do not see each other: positions start again at each row, and attention
keeps to the row; a batch says which rows it holds; states of lower layers, where they are
kept, take the place of the tokens, and nothing else changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from gpu_steps import models
from gpu_steps.rows import Example

ROWS = "rows"


@dataclass(frozen=True)
class Collator:
    """Collates examples by their numbers.

    `states` holds one tensor a row, (tokens, hidden size): what enters the lowest adapted layer.
    """

    examples: Sequence[Example]
    pad_token_id: int
    packed: bool = False
    states: Sequence[torch.Tensor] | None = None

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the inputs of dataset items (each with `row`, its number), and `rows`."""
        rows = [int(item["row"]) for item in items]
        return {**self.inputs(rows), ROWS: torch.tensor(rows)}

    def inputs(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the model's inputs for these rows, (rows, longest) or (1, all tokens) packed."""
        found = [vars(self.examples[row]) for row in rows]
        batch: dict[str, Any] = DataCollatorForLanguageModeling(
            self.pad_token_id, padding_free=self.packed
        )(found)
        if self.states is not None:
            del batch["input_ids"]
            states = [self.states[row] for row in rows]
            together = torch.cat(states)[None] if self.packed else pad_sequence(states, True)
            batch["inputs_embeds"] = together
        return batch


def wants_packing(setting: bool | None, model: Any) -> bool:
    """Say whether rows are packed; unless set, where the kernel for rows of any length is.

    With batches of like length little padding is left to save, and without that kernel a mask over
    all rows keeps them apart, which costs more than the padding.
    """
    return _has_varlen_kernel(model) if setting is None else setting


def choose_attention(model: Any, packed: bool, longest: int) -> None:
    """Set the attention kernel that suits the machine and the batches of `longest` tokens a row."""
    if packed:
        model.set_attn_implementation("flash_attention_2" if _has_varlen_kernel(model) else "sdpa")
    else:
        models.prefer_fast_attention(model, longest)


def _has_varlen_kernel(model: Any) -> bool:
    flash = transformers.utils.is_flash_attn_2_available()
    return bool(flash and model.device.type == "cuda" and model.dtype.itemsize == 2)
