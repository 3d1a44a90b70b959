"""The loss of completions: cross-entropy where there is a label, and nowhere else.

Invariants: the vocabulary head sees labelled positions only; logits are the library's own, with
whatever the architecture does after its head (Gemma's soft-capping, Granite's and Cohere's
scaling), because its forward computes them; never more than `_LARGEST_LOGITS` bytes of them exist
at a time, forward or backward; how the positions are cut into chunks changes nothing but the order
of a sum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

from gpu_steps.rows import IGNORED

# Logits in float32. Above this they are computed in chunks, and once more backward, which costs a
# third of the head's time. Short completions stay far below it.
_LARGEST_LOGITS = 2**28


def completion_loss(
    causal: Any, inputs: dict[str, Any], labels: torch.Tensor, count: torch.Tensor | int | None
) -> torch.Tensor:
    """Return the summed cross-entropy of the labelled positions over `count`.

    Args:
        causal: the causal model itself, under its adapter.
        inputs: what its forward takes, without labels.
        labels: (rows, tokens), not shifted; -100 where nothing is learned.
        count: labelled positions of the whole batch, of which this may be a part; null: of this.
    """
    labelled = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][labelled]
    size = max(1, _LARGEST_LOGITS // (4 * causal.get_output_embeddings().weight.shape[0]))
    if len(targets) <= size:
        total = _summed(labelled_logits(causal, inputs, labelled), targets)
    else:
        hidden = causal.base_model(**inputs, use_cache=False).last_hidden_state
        states = torch.split(hidden[:, :-1][labelled], size)
        pieces = zip(states, torch.split(targets, size), strict=True)
        parts = [checkpoint(_of_states, causal, *piece, use_reentrant=False) for piece in pieces]
        total = torch.stack(parts).sum()
    return total / (labelled.sum() if count is None else count)


def labelled_logits(causal: Any, inputs: dict[str, Any], labelled: torch.Tensor) -> torch.Tensor:
    """Return the logits (labelled positions, vocabulary) that predict the labelled tokens.

    `labelled` is (batch, tokens - 1), true where the token after the position carries a label. A
    model that cannot be told which positions to keep computes all, and the labelled are taken.
    """
    keep = torch.nn.functional.pad(labelled, (0, 1))
    logits: torch.Tensor = causal(**inputs, use_cache=False, logits_to_keep=keep).logits
    # Three dimensions: the mask was not understood, and all positions came back.
    return logits[keep] if logits.dim() == 3 else logits


def _summed(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def _of_states(causal: Any, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    with _trunk_gives(causal, states[None]):
        logits = causal(inputs_embeds=states[None], use_cache=False).logits
    return _summed(logits[0], targets)


@contextmanager
def _trunk_gives(causal: Any, states: torch.Tensor) -> Iterator[None]:
    """Let the model's forward take these states for what its trunk has computed."""
    name = causal.base_model_prefix
    trunk = getattr(causal, name)
    setattr(causal, name, _Given(states))
    try:
        yield
    finally:
        setattr(causal, name, trunk)


class _Given(nn.Module):
    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, **_: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=self.states)
