"""Computes the layers below the adapter once, instead of in every epoch.

Invariants: the layers below the lowest adapted one are frozen, so what they give for a row never
changes; the rows' states are kept and the model is trained without those layers. After the block
the model is whole again and its adapter has the names of the whole model. Where this would not be
exact (layers of several kinds, dropout, a trunk that scales what enters it) or would not fit in
memory, the model is trained as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gpu_steps.rows import Example

_LARGEST_STATES = 2**30
_BATCH = 32


def can_keep(model: Any, examples: list[Example]) -> bool:
    """Say whether the states of all rows are exact and small enough to keep."""
    config = model.config.get_text_config()
    trunk = model.get_base_model().base_model
    parts = all(hasattr(trunk, name) for name in ("layers", "norm", "embed_tokens"))
    one_kind = len(set(getattr(config, "layer_types", None) or [""])) == 1
    fixed = not getattr(config, "attention_dropout", 0.0)
    tokens = sum(len(example.input_ids) for example in examples)
    size = tokens * config.hidden_size * model.dtype.itemsize
    return parts and one_kind and fixed and size <= _LARGEST_STATES and _passes_on(trunk)


@torch.no_grad()
def _passes_on(trunk: Any) -> bool:
    """Say whether states enter the layers as they are given (Gemma and Granite scale them)."""
    layers, norm = trunk.layers, trunk.norm
    states = torch.ones_like(trunk.embed_tokens.weight[None, :1])
    try:
        trunk.layers, trunk.norm = nn.ModuleList(), nn.Identity()
        out = trunk(inputs_embeds=states, use_cache=False).last_hidden_state
    finally:
        trunk.layers, trunk.norm = layers, norm
    return torch.equal(out, states)


@contextmanager
def without_lower_layers(
    model: Any, count: int, examples: list[Example]
) -> Iterator[list[torch.Tensor]]:
    """Take the lowest `count` layers off `model` for the block; give what they make of the rows.

    One tensor a row, (tokens, hidden size): what enters the lowest adapted layer.
    """
    trunk = model.get_base_model().base_model
    layers, norm = trunk.layers, trunk.norm
    try:
        trunk.layers, trunk.norm = nn.ModuleList(layers[:count]), nn.Identity()
        states = _states(trunk, examples)
        trunk.layers, trunk.norm = nn.ModuleList(layers[count:]), norm
        yield states
    finally:
        trunk.layers, trunk.norm = layers, norm


@torch.no_grad()
def _states(trunk: Any, examples: list[Example]) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    order = sorted(range(len(examples)), key=lambda at: len(examples[at].input_ids))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        longest = len(examples[batch[-1]].input_ids)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for at, number in enumerate(batch):
            length = len(examples[number].input_ids)
            ids[at, :length] = torch.tensor(examples[number].input_ids)
            mask[at, :length] = 1
        device = trunk.embed_tokens.weight.device
        out = trunk(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        for at, number in enumerate(batch):
            found[number] = (
                out.last_hidden_state[at, : len(examples[number].input_ids)].cpu().clone()
            )
    return [found[number] for number in range(len(examples))]
