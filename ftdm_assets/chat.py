"""The one definition of the chat template and the end of turn: training, evaluation, serving.

A base model's folder says how its family speaks (``family.json``); the task's instruction goes into
that template, so that an application sends only the text. The same template text renders the
training rows and lies in the merged model's folder, where the inference engine reads it; its digest
proves that they are the same.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.sandbox

_FAMILY_FILE = "family.json"
_TEMPLATE_FILE = "chat_template.jinja"
_INSTRUCTION = "@INSTRUCTION@"


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

        Raises:
            ValueError: if the template is no template, or refuses the messages.
        """
        messages = [{"role": "user", "content": text}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        try:
            compiled = _compiled(self.template)
            prompt = compiled.render(messages=messages, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise ValueError(f"the base model's chat template: {error}") from error
        return prompt, answer + self.end_of_turn


@dataclass(frozen=True)
class BaseFormat:
    """What a base model's folder says of its family; written by ``gpu_steps.prepare_base``.

    Attributes:
        family: its name.
        known: whether it is in the table of families, or was discovered.
        warnings: what a person should know.
        template: chat template, with a place for the instruction.
        end_of_turn: the token that ends every answer.
        target_modules: linear modules that an adapter adapts.
        context_length: in tokens.
        own_template: how the tokenizer's own template compares.
        probe: a conversation as the tokenizer's library renders it with the template.
    """

    family: str
    known: bool
    warnings: tuple[str, ...]
    template: str
    end_of_turn: str
    target_modules: list[str] | str
    context_length: int
    own_template: str
    probe: Mapping[str, str]

    def chat(self, instruction: str) -> ChatFormat:
        """Return the chat format with the task's instruction."""
        literal = json.dumps(instruction, ensure_ascii=False)
        return ChatFormat(self.template.replace(_INSTRUCTION, literal), self.end_of_turn)


def base_format(base_model: Path) -> BaseFormat:
    """Read what a base model's folder says of its family.

    Raises:
        ValueError: if it says nothing.
    """
    path = base_model / _FAMILY_FILE
    if not path.is_file():
        raise ValueError(f"{path}: there is none; materialise base_model again")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names = set(BaseFormat.__dataclass_fields__)
    values = {key: value for key, value in found.items() if key in names}
    return BaseFormat(**{**values, "warnings": tuple(found["warnings"])})


def served_format(model: Path) -> ChatFormat:
    """Read the chat format that an inference engine finds in a merged model's folder.

    Raises:
        ValueError: if the folder holds no template.
    """
    path = model / _TEMPLATE_FILE
    if not path.is_file():
        raise ValueError(f"{path}: the merged model has no chat template; merge it again")
    return ChatFormat(path.read_text(encoding="utf-8"), special_token(model, "eos_token"))


def special_token(model: Path, name: str) -> str:
    """Return the text of a model folder's ``eos_token`` or ``pad_token``; empty if it has none."""
    text = (model / "tokenizer_config.json").read_text(encoding="utf-8")
    token = json.loads(text).get(name) or ""
    return str(token["content"] if isinstance(token, dict) else token)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    # As the tokenizer's library and the inference engine compile it.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment.from_string(template)
