"""The vocabulary head of a causal model, with whatever the architecture does after it.

Invariant: the logits are the library's own, Gemma's soft-capping and Granite's and Cohere's scaling
included, for as few states as are given: its forward pass computes them, only that its trunk is
replaced for the moment by one that hands the states on.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast


class Head:
    """Turns last states (positions, hidden size) into logits (positions, vocabulary)."""

    def __init__(self, causal: Any) -> None:
        self.causal = causal

    @property
    def weight(self) -> torch.Tensor:
        """The head's matrix (vocabulary, hidden size)."""
        weight: torch.Tensor = self.causal.get_output_embeddings().weight
        return weight

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of these states."""
        name = self.causal.base_model_prefix
        trunk = getattr(self.causal, name)
        setattr(self.causal, name, _HandsOn())
        try:
            logits: torch.Tensor = self.causal(inputs_embeds=states[None], use_cache=False).logits
        finally:
            setattr(self.causal, name, trunk)
        return logits[0]


class _HandsOn(nn.Module):
    """Stands in for a trunk that has been computed already."""

    def forward(self, *, inputs_embeds: torch.Tensor, **others: Any) -> BaseModelOutputWithPast:
        """Return what was given as the last states."""
        del others
        return BaseModelOutputWithPast(last_hidden_state=inputs_embeds)
