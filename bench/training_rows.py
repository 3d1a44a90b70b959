"""Rows and base models of the bench of training.

The demo's rows are those of its training set, made by the same code. Llama-shaped models have
random weights of the real sizes; their rows are random words, one token each, cut to the length
asked for, all of it completion but for a short prompt.
"""

import random
from pathlib import Path
from typing import Any

import pandas as pd

from bench.dirt import cleaned
from ftdm_assets.chat import base_format
from ftdm_assets.graph.dataset import GENERAL_SYSTEM, instructions_path, read_instructions
from ftdm_assets.model_folder import load_model
from ftdm_assets.records.mix import training_rows

END, PAD = "<|im_end|>", "<|endoftext|>"
_PROMPT_WORDS = 16
_WORDS = 1000
# Hidden size, intermediate size, layers, heads, key-value heads, vocabulary.
LLAMA = {
    "8b": (4096, 14336, 32, 32, 8, 128_256),
    "tiny": (64, 128, 2, 4, 2, 2_048),
}


def demo_rows(base: Path, count: int, records: pd.DataFrame | None = None) -> list[dict[str, str]]:
    """Return `count` rows of the demo's training set for a base model, drawn with a seed.

    `records` stand for the cleaned ones, which take half a minute to make.
    """
    model = load_model("support_tickets")
    settings = model.settings
    chat = base_format(base).chat(settings.task.instruction)
    rows = training_rows(
        cleaned()[0].records if records is None else records,
        read_instructions(instructions_path(model)),
        render=chat.render,
        render_general=lambda text, answer: chat.render(text, answer, GENERAL_SYSTEM),
        share=settings.general.share,
        seed=settings.training.seed,
    )
    drawn = random.Random(0).sample(rows, count)
    return [
        {"record_id": one.record_id, "prompt": one.prompt, "completion": one.completion}
        for one in drawn
    ]


def random_rows(count: int, length: int) -> list[dict[str, str]]:
    """Return `count` rows of exactly `length` tokens for the tokenizer of `llama_shaped`."""
    draw = random.Random(0)

    def words(number: int) -> str:
        return " ".join(f"w{draw.randrange(_WORDS)}" for _ in range(number))

    return [
        {
            "record_id": f"r{place}",
            "prompt": words(_PROMPT_WORDS),
            "completion": f" {words(length - _PROMPT_WORDS - 1)} {END}",
        }
        for place in range(count)
    ]


def llama_shaped(folder: Path, size: str, context: int) -> None:
    """Write a model of Llama 3.1's shape with random bfloat16 weights, and a word tokenizer."""
    import tokenizers
    import torch
    import transformers

    special = [PAD, "<|begin|>", END]
    numbers = {word: n for n, word in enumerate([*special, *(f"w{n}" for n in range(_WORDS))])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token=PAD))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|begin|>", eos_token=END, pad_token=PAD, unk_token=PAD
    ).save_pretrained(folder)
    hidden, inner, layers, heads, key_value_heads, vocabulary = LLAMA[size]
    config: Any = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
