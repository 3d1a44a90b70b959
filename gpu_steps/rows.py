"""Training rows: JSON lines of a record id, a prompt and a completion, both chat-formatted.

Invariants: every row is valid or the step stops with the file and the line; no row is shortened or
skipped; only completion tokens carry a label, and the last of them is the end of turn.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import ConfigError

IGNORED = -100
_KEYS = ("record_id", "prompt", "completion")


@dataclass(frozen=True)
class Row:
    """One example: the text the model sees and the text it must answer."""

    record_id: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class Example:
    """A row as tokens; `labels` is as long as `input_ids`, -100 where nothing is learned."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained_tokens(self) -> int:
        """How many tokens carry a label."""
        return sum(label != IGNORED for label in self.labels)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file of objects; blank lines are errors too.

    Raises:
        ConfigError: naming the file and the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    if lines[-1] == "":
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: is not valid JSON ({error}).") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}, line {number}: must be a JSON object.")
        rows.append(row)
    if not rows:
        raise ConfigError(f"{path}: has no rows; the step needs at least one.")
    return rows


def read_rows(path: Path) -> list[Row]:
    """Read and validate training rows.

    Raises:
        ConfigError: naming the file, the line and the field.
    """
    rows = []
    for number, found in enumerate(read_json_lines(path), start=1):
        where = f"{path}, line {number}"
        if sorted(found) != sorted(_KEYS):
            raise ConfigError(f"{where}: must have the keys {', '.join(_KEYS)} and no others.")
        for key in _KEYS:
            if not isinstance(found[key], str) or not found[key]:
                raise ConfigError(f"{where}: {key} must be a string that is not empty.")
        rows.append(Row(**found))
    return rows


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """All special tokens with their numbers, those without a role (as Llama's end of turn) too."""
    added = tokenizer.added_tokens_decoder
    found = {str(token): number for number, token in added.items() if token.special}
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return found | dict(named)


def encode_rows(rows: list[Row], tokenizer: Any, max_length: int, path: Path) -> list[Example]:
    """Tokenise rows the way the engine will: the prompt by itself, then the completion.

    Raises:
        ConfigError: a row is longer than `max_length` or does not end in an end-of-turn token, or
            that token is the padding too.
    """
    prompts = tokenizer([row.prompt for row in rows], add_special_tokens=False)["input_ids"]
    completions = tokenizer([row.completion for row in rows], add_special_tokens=False)["input_ids"]
    examples = []
    special = set(special_tokens(tokenizer).values())
    end = completions[0][-1]
    if end == tokenizer.pad_token_id:
        msg = f"the base model's padding token {tokenizer.pad_token} is also its end of turn"
        raise ConfigError(f"{path}: {msg}; prepare the base model with `gpu_steps.prepare_base`.")
    for number, (row, prompt, answer) in enumerate(zip(rows, prompts, completions, strict=True), 1):
        where = f"{path}, line {number} (record {row.record_id})"
        length = len(prompt) + len(answer)
        if length > max_length:
            msg = f"{where}: {length} tokens exceed max_length {max_length}; raise it or drop it."
            raise ConfigError(msg)
        if answer[-1] != end or end not in special:
            msg = f"{where}: the completion does not end with the model's end-of-turn token."
            raise ConfigError(msg)
        examples.append(Example(prompt + answer, [IGNORED] * len(prompt) + answer))
    return examples
