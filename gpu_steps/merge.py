"""Merges what was trained into the model to serve and measures whether the two still agree.

Invariants: agreement is measured on the files as written, not on what was in memory, for next
tokens and for whole greedy answers; the model's folder decodes greedily, stops at the end of turn
and pads with another token.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import ConfigError
from gpu_steps.output import whole_folder, write_json
from gpu_steps.program import run_program
from gpu_steps.reporting import Reporter
from gpu_steps.rows import Row, read_rows, special_tokens
from gpu_steps.train import LORA, METHODS


@dataclass(frozen=True)
class Merge:
    """The step's configuration.

    `adapter` is what training with `method` left: for full, a whole model. `agreement_file` has
    training rows; `prompts_file` rows whose prompts are answered by both models (null: none).
    """

    base_model: Path
    adapter: Path
    output: Path
    chat_template: str
    end_of_turn: str
    max_new_tokens: int
    agreement_file: Path
    prompts_file: Path | None = None
    method: str = LORA

    def __post_init__(self) -> None:
        """Refuse what would make a model that cannot be served."""
        if not self.chat_template.strip():
            raise ValueError("chat_template is empty; give the template's text.")
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1.")
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}.")


def merge(config: Merge, reporter: Reporter) -> None:
    """Write `output`: model/ and result.json."""
    from gpu_steps import merging, models  # not before the configuration is right

    rows = read_rows(config.agreement_file)
    prompts = [row.prompt for row in read_rows(config.prompts_file)] if config.prompts_file else []
    models.quiet_libraries()
    tokenizer = _tokenizer(config)
    sources = (config.base_model, config.adapter, config.method)
    with whole_folder(config.output) as folder:
        reporter.progress("merging what was trained into the base model")
        model = merging.merged(*sources)
        _write(model, tokenizer, config, folder / "model")
        del model
        reporter.progress(f"comparing both on {len(rows)} rows and {len(prompts)} prompts")
        compare = _Comparison(merging.reference(*sources), tokenizer, rows, prompts, config)
        result = compare.measure(models.load_model(folder / "model", "float32"))
        other = merging.alternative(*sources)
        if other is not None:
            result["alternative"] = compare.measure(other)
        reporter.progress(f"agreement {result['agreement']:.4f}", agreement=result["agreement"])
        write_json(folder / "result.json", result)


@dataclass(frozen=True)
class _Comparison:
    """What a merged model is compared with, and on what."""

    reference: Any
    tokenizer: Any
    rows: list[Row]
    prompts: list[str]
    config: Merge

    def measure(self, model: Any) -> dict[str, Any]:
        """Return how far `model` agrees with the reference."""
        from gpu_steps import agreement

        found = agreement.measure(self.reference, model, self.tokenizer, self.rows)
        if not self.prompts:
            return found
        longest = self.config.max_new_tokens
        answers = agreement.greedy(model, self.tokenizer, self.prompts, longest)
        same = agreement.same_predictions(self.reference, self.tokenizer, self.prompts, answers)
        asked = len(self.prompts)
        return found | {"predictions": asked, "same_predictions": same}


def _tokenizer(config: Merge) -> Any:
    from gpu_steps import models

    tokenizer = models.load_tokenizer(config.base_model)
    # Not by number: an unknown token has the number of the unknown token, which is special too.
    if config.end_of_turn not in special_tokens(tokenizer):
        msg = f"end_of_turn {config.end_of_turn!r} is no special token of {config.base_model}."
        raise ConfigError(msg)
    tokenizer.eos_token = config.end_of_turn
    tokenizer.pad_token = models.choose_pad_token(tokenizer, config.end_of_turn)
    tokenizer.chat_template = config.chat_template
    return tokenizer


def _write(model: Any, tokenizer: Any, config: Merge, folder: Path) -> None:
    from gpu_steps import models

    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    models.save_model(model, folder)
    models.save_tokenizer(tokenizer, folder)
    # By hand: the library refuses to save a temperature beside greedy decoding, but the engine
    # samples at temperature 1 unless this file says 0.
    generation = {
        "do_sample": False,
        "temperature": 0.0,
        "max_new_tokens": config.max_new_tokens,
        "bos_token_id": model.config.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    write_json(folder / "generation_config.json", generation)


if __name__ == "__main__":
    sys.exit(run_program("merge", Merge, merge))
