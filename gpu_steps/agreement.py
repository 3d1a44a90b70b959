"""Measures whether two models of one vocabulary predict the same next tokens.

Invariant: `agreement` counts the positions whose prediction matters, those of the completion with
its end of turn; `agreement_everywhere` counts the prompt's positions too, where near-ties between
arbitrary continuations flip with rounding.
"""

from dataclasses import dataclass
from typing import Any

import torch

from gpu_steps.rows import Row


@dataclass
class _Tally:
    positions: int = 0
    equal: int = 0

    def add(self, same: torch.Tensor) -> None:
        self.positions += same.numel()
        self.equal += int(same.sum())

    @property
    def share(self) -> float:
        return self.equal / self.positions


def measure(first: Any, second: Any, tokenizer: Any, rows: list[Row]) -> dict[str, Any]:
    """Compare next-token logits of both models over the rows, one row at a time."""
    first.eval()
    second.eval()
    answers, everywhere = _Tally(), _Tally()
    largest, total, count = 0.0, 0.0, 0
    for row in rows:
        prompt = tokenizer(row.prompt, add_special_tokens=False)["input_ids"]
        answer = tokenizer(row.completion, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt + answer])
        one, two = _logits(first, ids), _logits(second, ids)
        same = one.argmax(-1) == two.argmax(-1)
        answers.add(same[len(prompt) - 1 : -1])
        everywhere.add(same)
        difference = (one - two).abs()
        largest = max(largest, float(difference.max()))
        total += float(difference.sum(dtype=torch.float64))
        count += difference.numel()
    return {
        "agreement": answers.share,
        "agreement_everywhere": everywhere.share,
        "positions": answers.positions,
        "max_logit_difference": largest,
        "mean_logit_difference": total / count,
        "prompts": len(rows),
    }


@torch.no_grad()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids.to(model.device), use_cache=False).logits[0]
    return logits.float().cpu()
