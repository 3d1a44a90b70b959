"""A batch as the trainer sees it, decoded back token by token for a person to read.

Invariant: what is shown went through the collator that training uses, so that a label that it
drops, moves or invents is seen.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch

from gpu_steps.collate import Collator
from gpu_steps.rows import IGNORED, Row

_SHOWN = 8


def decoded_batch(
    collate: Collator, order: Iterable[int], rows: list[Row], tokenizer: Any
) -> list[dict[str, Any]]:
    """Return the first examples of the first batch: their tokens' texts, and which are trained.

    `order` gives the rows' numbers. Padding is left out, unless it carries a label.
    """
    chosen = list(islice(iter(order), _SHOWN))
    batch = collate.inputs(chosen)
    lengths = [len(collate.examples[row].input_ids) for row in chosen]
    labels = _rows_of(batch["labels"], lengths, collate.packed)
    # Where the lower layers were computed before, the batch holds their states, not tokens.
    given = _rows_of(batch["input_ids"], lengths, collate.packed) if "input_ids" in batch else None
    shown = []
    for place, row in enumerate(chosen):
        trained = [label != IGNORED for label in labels[place]]
        ids = collate.examples[row].input_ids if given is None else given[place]
        count = max(lengths[place], len(trained) - trained[::-1].index(True))
        tokens = [
            {"text": tokenizer.decode([token]), "trained": learned}
            for token, learned in zip(ids[:count], trained[:count], strict=True)
        ]
        shown.append({"record_id": rows[row].record_id, "tokens": tokens})
    return shown


def _rows_of(batch: torch.Tensor, lengths: list[int], packed: bool) -> list[list[int]]:
    parts = torch.split(batch[0], lengths) if packed else batch
    return [part.tolist() for part in parts]
