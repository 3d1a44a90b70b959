"""A batch as the trainer sees it, decoded back token by token for a person to read.

Invariant: what is shown went through the collator that training uses, so that a label that it
drops, moves or invents is seen.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from gpu_steps.rows import IGNORED, Row

_SHOWN = 8


def decoded_batch(
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    columns: dict[str, list[Any]],
    order: Iterable[int],
    rows: list[Row],
    tokenizer: Any,
) -> list[dict[str, Any]]:
    """Return the first examples of the first batch: their tokens' texts, and which are trained.

    `columns` are the trainer's dataset (row, input_ids, labels), `order` gives the indices.
    Padding is left out, unless it carries a label.
    """
    chosen = list(islice(iter(order), _SHOWN))
    batch = collate([{name: values[at] for name, values in columns.items()} for at in chosen])
    shown = []
    for place, at in enumerate(chosen):
        own = columns["input_ids"][at]
        # Where the lower layers were computed before, the batch holds their states, not tokens.
        ids = batch["input_ids"][place].tolist() if "input_ids" in batch else own
        labels = batch["labels"][place].tolist()
        last = max(at for at, label in enumerate(labels) if label != IGNORED)
        count = max(len(own), last + 1)
        tokens = [
            {"text": tokenizer.decode([token]), "trained": label != IGNORED}
            for token, label in zip(ids[:count], labels[:count], strict=True)
        ]
        shown.append({"record_id": rows[at].record_id, "tokens": tokens})
    return shown
