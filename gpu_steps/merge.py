"""Merges an adapter into its base model and measures whether the two still agree.

Invariants: the merge is computed in float32 and rounded to bf16 once; agreement is measured on
the files as written, not on what was in memory; the model's folder decodes greedily, stops at the
end of turn and pads with another token.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import ConfigError
from gpu_steps.output import whole_folder, write_json
from gpu_steps.program import run_program
from gpu_steps.reporting import Reporter
from gpu_steps.rows import read_rows, special_tokens


@dataclass(frozen=True)
class Merge:
    """The step's configuration."""

    base_model: Path
    adapter: Path
    output: Path
    chat_template: str
    end_of_turn: str
    max_new_tokens: int
    agreement_file: Path

    def __post_init__(self) -> None:
        """Refuse what would make a model that cannot be served."""
        if not self.chat_template.strip():
            raise ValueError("chat_template is empty; give the template's text.")
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1.")


def merge(config: Merge, reporter: Reporter) -> None:
    """Write `output`: model/ and result.json."""
    from gpu_steps import adapters, agreement, models  # not before the configuration is right

    rows = read_rows(config.agreement_file)
    models.quiet_libraries()
    tokenizer = _tokenizer(config)
    with whole_folder(config.output) as folder:
        reporter.progress("merging the adapter into the base model")
        base = models.load_model(config.base_model, "float32")
        model = adapters.load_adapter(base, config.adapter)
        merged = model.merge_and_unload(safe_merge=True).to(models.DTYPES["bfloat16"])
        _write(merged, tokenizer, config, folder / "model")
        del base, model, merged
        reporter.progress(f"comparing both on {len(rows)} prompts")
        # Computed in float32, so that what differs is the merge and not the noise of bf16 sums.
        base = models.load_model(config.base_model, "float32")
        adapted = adapters.load_adapter(base, config.adapter)
        written = models.load_model(folder / "model", "float32")
        result = agreement.measure(adapted, written, tokenizer, rows)
        reporter.progress(f"agreement {result['agreement']:.4f}", agreement=result["agreement"])
        write_json(folder / "result.json", result)


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
