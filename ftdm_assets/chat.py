"""The one definition of the chat template and the end of turn: training, evaluation, serving.

The template carries the task's instruction, so that an application sends only the text. The same
template text renders the training rows and lies in the merged model's folder, where the inference
engine reads it; its digest proves that they are the same.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import jinja2
import jinja2.sandbox

END_OF_TURN = "<|im_end|>"

_CHATML = """\
{%- if messages and messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\n' + INSTRUCTION + '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""


@dataclass(frozen=True)
class ChatFormat:
    """A chat template and its end of turn.

    Attributes:
        template: Jinja text, with the task's instruction in it.
        end_of_turn: the token that ends every answer, in training and when serving.
    """

    template: str
    end_of_turn: str

    @property
    def digest(self) -> str:
        """Return the digest of template and end of turn."""
        return hashlib.sha256(f"{self.end_of_turn}\n{self.template}".encode()).hexdigest()

    def render(self, text: str, answer: str, system: str | None = None) -> tuple[str, str]:
        """Return prompt and completion of one example; the completion ends the turn.

        Args:
            text: what the user says.
            answer: what the model has to answer.
            system: a system message in place of the task's instruction (general instructions).
        """
        messages = [{"role": "user", "content": text}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        prompt = _compiled(self.template).render(messages=messages, add_generation_prompt=True)
        return prompt, answer + self.end_of_turn


def chatml(instruction: str) -> ChatFormat:
    """Return the ChatML format (SmolLM2, Qwen 2.5) with the task's instruction."""
    literal = json.dumps(instruction, ensure_ascii=False)
    return ChatFormat(_CHATML.replace("INSTRUCTION", literal), END_OF_TURN)


def speaks_chatml(base_model: Path) -> bool:
    """Say whether a base model's tokenizer knows the ChatML tokens as single tokens."""
    text = (base_model / "tokenizer.json").read_text(encoding="utf-8")
    added = {token["content"] for token in json.loads(text).get("added_tokens", [])}
    return {"<|im_start|>", "<|im_end|>"} <= added


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template)
