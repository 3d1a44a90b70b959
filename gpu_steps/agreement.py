"""Measures whether two models of one vocabulary predict the same.

Invariants: `agreement` counts the positions whose prediction matters, those of the completion with
its end of turn; `agreement_everywhere` counts the prompt's positions too, where near-ties between
arbitrary continuations flip with rounding. `mean_kl` is over the completion's positions, in nats.
Predictions are whole greedy answers: they agree when every token does.
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
    """Compare next-token logits of both models over the rows, one row at a time.

    `mean_kl` is the divergence of the second model's distributions from the first's.
    """
    first.eval()
    second.eval()
    answers, everywhere = _Tally(), _Tally()
    largest, total, count, divergence = 0.0, 0.0, 0, 0.0
    for row in rows:
        prompt = tokenizer(row.prompt, add_special_tokens=False)["input_ids"]
        answer = tokenizer(row.completion, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt + answer])
        one, two = _logits(first, ids), _logits(second, ids)
        same = one.argmax(-1) == two.argmax(-1)
        answers.add(same[len(prompt) - 1 : -1])
        everywhere.add(same)
        divergence += _divergence(one[len(prompt) - 1 : -1], two[len(prompt) - 1 : -1])
        difference = (one - two).abs()
        largest = max(largest, float(difference.max()))
        total += float(difference.sum(dtype=torch.float64))
        count += difference.numel()
    return {
        "agreement": answers.share,
        "agreement_everywhere": everywhere.share,
        "positions": answers.positions,
        "mean_kl": divergence / answers.positions,
        "max_logit_difference": largest,
        "mean_logit_difference": total / count,
        "prompts": len(rows),
    }


@torch.no_grad()
def greedy(model: Any, tokenizer: Any, prompts: list[str], max_new_tokens: int) -> list[list[int]]:
    """Return the tokens that the model answers each prompt with, the end of turn included."""
    model.eval()
    answers = []
    for prompt in prompts:
        asked = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        written = model.generate(
            **asked.to(model.device),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers.append(written[0, asked["input_ids"].shape[1] :].tolist())
    return answers


def same_predictions(
    model: Any, tokenizer: Any, prompts: list[str], answers: list[list[int]]
) -> int:
    """Count the prompts that `model` would answer greedily with exactly these tokens.

    It would if, after the prompt and any part of the answer, the answer's next token is its first
    choice: one forward pass an answer, no generation.
    """
    model.eval()
    same = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        logits = _logits(model, torch.tensor([asked + answer]))
        same += logits[len(asked) - 1 : -1].argmax(-1).tolist() == answer
    return same


def _divergence(one: torch.Tensor, two: torch.Tensor) -> float:
    first, second = one.log_softmax(-1), two.log_softmax(-1)
    found = torch.nn.functional.kl_div(second, first, reduction="sum", log_target=True)
    # Equal distributions give some -1e-9 by rounding.
    return max(0.0, float(found))


@torch.no_grad()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids.to(model.device), use_cache=False).logits[0]
    return logits.float().cpu()
