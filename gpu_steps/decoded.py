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
    """
    chosen = list(islice(iter(order), _SHOWN))
    names = ("row", "input_ids", "labels")
    batch = collate([{name: columns[name][at] for name in names} for at in chosen])
    # Where the lower layers were computed before, the batch holds their states instead of tokens.
    ids = batch.get("input_ids")
    shown = []
    for place, at in enumerate(chosen):
        own = columns["input_ids"][at]
        tokens = own if ids is None else ids[place].tolist()
        labels = batch["labels"][place].tolist()[: len(tokens)]
        pairs = zip(tokens, labels, strict=True)
        texts = [(tokenizer.decode([token]), label != IGNORED) for token, label in pairs]
        texts = texts[: len(own)] if not any(trained for _, trained in texts[len(own) :]) else texts
        shown.append(
            {
                "record_id": rows[at].record_id,
                "tokens": [{"text": text, "trained": trained} for text, trained in texts],
            }
        )
    return shown
