"""Token counts by the base model's own tokenizer, without loading the model."""

import functools
from pathlib import Path

from tokenizers import Tokenizer


@functools.lru_cache(maxsize=4)
def _load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


class TokenCounter:
    """Counts and splits text as the base model in a folder does."""

    def __init__(self, base_model: Path) -> None:
        self._tokenizer = _load(base_model / "tokenizer.json")

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text, special tokens in it recognised, none added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).tokens)

    def ids(self, text: str) -> list[int]:
        """Return the numbers of a text's tokens, special tokens in it recognised, none added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt_ids(self, text: str) -> list[int]:
        """Return the numbers of a prompt's tokens, with those that the model wants added."""
        return list(self._tokenizer.encode(text).ids)

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len(self.tokens(text))

    def special(self) -> dict[str, int]:
        """Return the special tokens with their numbers."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}
