"""Tiny random models of each family: its architecture, its special tokens, a tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from tests.gpu_steps.gpu_tiny import LABELS, TEXTS

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


@dataclass(frozen=True)
class Tiny:
    """How a family's tiny model is made, and what its parts have to be.

    `pad` is what the tokenizer comes with (some come with none, some with their end of text).
    """

    family: str
    config: type[Any]
    special: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str | None
    extra: dict[str, Any]
    template: str | None = None

    def write(self, folder: Path) -> Path:
        """Write model and tokenizer to a folder, as a downloaded model has them."""
        tokenizer = make_tokenizer(self.special)
        tokenizer.add_special_tokens(
            {
                name: token
                for name, token in {
                    "bos_token": self.bos, "eos_token": self.eos, "pad_token": self.pad
                }.items()
                if token
            }
        )  # fmt: skip
        tokenizer.chat_template = self.template
        ids = tokenizer.convert_tokens_to_ids
        config = self.config(
            **SIZES | self.extra,
            vocab_size=len(tokenizer),
            bos_token_id=ids(self.bos) if self.bos else None,
            eos_token_id=ids(self.eos),
            pad_token_id=ids(self.pad) if self.pad else None,
        )
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


def make_tokenizer(special: tuple[str, ...]) -> Any:
    """A byte-level tokenizer with these special tokens."""
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300 + len(special),
        special_tokens=list(special),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS + LABELS, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw)


_HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# In the likeness of the families' own templates, as far as they matter here.
_NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
_GEMMA = _NO_SYSTEM + (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == "
    "'assistant' else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

TINY = (
    Tiny(
        "Llama 3.1",
        transformers.LlamaConfig,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", *_HEADERS),
        "<|begin_of_text|>",
        "<|eot_id|>",
        None,
        {"max_position_embeddings": 131072},
    ),
    Tiny(
        "Mistral v0.3",
        transformers.MistralConfig,
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        "<s>",
        "</s>",
        None,
        {"max_position_embeddings": 32768, "sliding_window": None},
    ),
    Tiny(
        "Phi-3",
        transformers.Phi3Config,
        ("<unk>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        None,
        "<|endoftext|>",
        "<|endoftext|>",
        {"max_position_embeddings": 4096},
    ),
    Tiny(
        "Gemma 2",
        transformers.Gemma2Config,
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        "<pad>",
        {"max_position_embeddings": 8192, "head_dim": 8, "final_logit_softcapping": 2.0},
        _GEMMA,
    ),
    Tiny(
        "Qwen 2.5",
        transformers.Qwen2Config,
        _CHATML,
        None,
        "<|endoftext|>",
        "<|endoftext|>",
        {"max_position_embeddings": 131072},
    ),
    Tiny(
        "SmolLM2",
        transformers.LlamaConfig,
        _CHATML,
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
        {"max_position_embeddings": 8192, "tie_word_embeddings": True},
    ),
)


SCALED = {
    "gemma2": (transformers.Gemma2Config, {"final_logit_softcapping": 0.5, "head_dim": 8}),
    "granite": (transformers.GraniteConfig, {"logits_scaling": 7.0, "embedding_multiplier": 3.0}),
    "cohere": (transformers.CohereConfig, {"logit_scale": 0.1}),
}


def scaled(name: str) -> Any:
    """Return a small model that does something to its logits behind the vocabulary head."""
    kind, extra = SCALED[name]
    torch.manual_seed(1)
    config = kind(**SIZES | extra, vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return transformers.AutoModelForCausalLM.from_config(config).eval()
