"""The loss of completions: cross-entropy where there is a label, and nowhere else.

Invariants: the vocabulary head sees labelled positions only; never more than `_LARGEST_LOGITS`
bytes of logits exist at a time, forward or backward; how the positions are cut into chunks changes
nothing but the order of a sum.
"""

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from gpu_steps.rows import IGNORED

# Logits in float32. Above this they are computed in chunks, and once more backward, which costs a
# third of the head's time. Short completions stay far below it.
_LARGEST_LOGITS = 2**28


def completion_loss(
    hidden: torch.Tensor, labels: torch.Tensor, head: Any, count: torch.Tensor | int | None
) -> torch.Tensor:
    """Return the summed cross-entropy of the labelled positions over `count`.

    Args:
        hidden: (rows, tokens, hidden size), the trunk's last states.
        labels: (rows, tokens), not shifted; -100 where nothing is learned.
        head: the vocabulary head, a module from hidden size to vocabulary.
        count: labelled positions of the whole batch, of which this may be a part; null: of this.
    """
    labelled = labels[:, 1:] != IGNORED
    states, targets = hidden[:, :-1][labelled], labels[:, 1:][labelled]
    size = max(1, _LARGEST_LOGITS // (4 * head.weight.shape[0]))
    if len(targets) <= size:
        total = _summed(states, targets, head)
    else:
        pieces = zip(torch.split(states, size), torch.split(targets, size), strict=True)
        parts = [checkpoint(_summed, *piece, head, use_reentrant=False) for piece in pieces]
        total = torch.stack(parts).sum()
    return total / (labelled.sum() if count is None else count)


def _summed(states: torch.Tensor, targets: torch.Tensor, head: Any) -> torch.Tensor:
    logits = head(states).float()
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
