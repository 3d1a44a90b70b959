"""Says what a base model asks for: its family's entry in the table, or what can be discovered.

Invariants: a discovered template is the tokenizer's own with the task's instruction put before it,
and renders what the library renders for the same messages; what ends its turns is read off a
rendered turn, never assumed; a model that cannot be told to stop is refused. Whatever was not
taken from the table is a warning that a person sees.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from gpu_steps import models
from gpu_steps.config import ConfigError
from gpu_steps.families import INSTRUCTION, NO_SYSTEM, SYSTEM, Family, find_family, guarded
from gpu_steps.rows import special_tokens
from gpu_steps.train import ALL_LINEAR

FILE = "family.json"
_NO_LIMIT = 10**9
_TEXT, _ANSWER, _SYSTEM_TEXT = "What is it?", "An answer", "Answer in brief."
_FIXED_DATE = "{%- macro strftime_now(format) -%}01 Jan 2025{%- endmacro -%}\n"


@dataclass(frozen=True)
class BaseFormat:
    """What `family.json` in a base model's folder says of it.

    `template` holds INSTRUCTION; `probe` is a conversation as the tokenizer's library renders it
    with that template, so that whoever renders it elsewhere can compare.
    """

    family: str
    known: bool
    warnings: tuple[str, ...]
    template: str
    end_of_turn: str
    pad_token: str
    target_modules: tuple[str, ...] | str
    context_length: int
    system_role: bool
    own_template: str
    probe: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write `family.json`; the template is text, so the same format gives the same bytes."""
        from gpu_steps.output import write_json

        write_json(folder / FILE, asdict(self))


def describe(model_config: Any, tokenizer: Any) -> BaseFormat:
    """Say what the base model with this configuration and tokenizer asks for.

    Raises:
        ConfigError: its turns cannot be rendered, or end with no special token.
    """
    special = special_tokens(tokenizer)
    family = find_family(model_config.model_type, special)
    own = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
    if family is None:
        family, warnings = _discover(model_config.model_type, tokenizer, own, special)
    else:
        warnings = () if own else (_UNTAUGHT,)
    template = guarded(family.template, special)
    pad = family.pad_token
    if pad not in special:
        pad = models.choose_pad_token(tokenizer, family.end_of_turn)
    text = model_config.get_text_config()
    longest = min(
        getattr(text, "max_position_embeddings", None) or _NO_LIMIT, family.context_length
    )
    return BaseFormat(
        family=family.name,
        known=bool(family.model_types),
        warnings=warnings,
        template=template,
        end_of_turn=family.end_of_turn,
        pad_token=pad,
        target_modules=family.target_modules or ALL_LINEAR,
        context_length=longest,
        system_role=family.system_role,
        own_template=_own(tokenizer, own, template),
        probe=_probe(tokenizer, template),
    )


def with_instruction(template: str, instruction: str) -> str:
    """Put the task's instruction into a template."""
    return template.replace(INSTRUCTION, json.dumps(instruction, ensure_ascii=False))


def takes_system(tokenizer: Any) -> bool:
    """Say whether the tokenizer's own template renders a system message."""
    messages = [{"role": "system", "content": _SYSTEM_TEXT}, {"role": "user", "content": _TEXT}]
    try:
        return _SYSTEM_TEXT in _render(tokenizer, None, messages, prompt=True)
    except (jinja2.TemplateError, TypeError, ValueError):
        return False


_UNTAUGHT = (
    "its tokenizer has no chat template, so it is probably no instruction-tuned model: the tokens "
    "of its turns may never have been trained"
)


def _discover(
    model_type: str, tokenizer: Any, own: str | None, special: dict[str, int]
) -> tuple[Family, tuple[str, ...]]:
    name = f"unknown ({model_type})"
    told = [f"model type {model_type} with this tokenizer is in no known family: "]
    chatml = find_family("qwen2", special)
    if own is None and chatml is None:
        raise ConfigError(
            f"the base model ({model_type}) is of no known family and its tokenizer has no chat "
            "template; choose an instruction-tuned model, or put a chat_template.jinja beside it"
        )
    if own is None:
        assert chatml is not None
        told += ["ChatML is used because it has those tokens; ", _UNTAUGHT]
        found = (chatml.template, chatml.end_of_turn, True)
    else:
        told += ["its own chat template is used, its end of turn is read off it, all linear "]
        told += ["layers are adapted; read the batch that the adapter shows"]
        system = takes_system(tokenizer)
        found = (_wrapped(tokenizer, own, system), _end_of_turn(tokenizer, own, special), system)
        _require_equal(tokenizer, found[0], system)
    warnings = ["".join(told)]
    if own is not None and "strftime_now" in own:
        warnings.append("its chat template tells the date of the day; it is fixed at 01 Jan 2025")
    template, end, system = found
    family = Family(name, (), (), template, end, "", (), _NO_LIMIT, system)
    return family, tuple(warnings)


def _wrapped(tokenizer: Any, own: str, system: bool) -> str:
    """Return the own template with the instruction, its tokens and its date as constants."""
    named = {key: text for key, text in tokenizer.special_tokens_map.items() if type(text) is str}
    constants = "".join(
        f"{{%- set {key} = {json.dumps(text, ensure_ascii=False)} -%}}\n"
        for key, text in sorted(named.items())
        if key in own
    )
    date = _FIXED_DATE if "strftime_now" in own else ""
    return constants + date + (SYSTEM if system else NO_SYSTEM) + own


def _end_of_turn(tokenizer: Any, own: str, special: dict[str, int]) -> str:
    turns = [{"role": "user", "content": _TEXT}, {"role": "assistant", "content": _ANSWER}]
    whole = _render(tokenizer, own, turns, prompt=False)
    prompt = _render(tokenizer, own, turns[:1], prompt=True)
    answer = whole.removeprefix(prompt).lstrip()
    if not whole.startswith(prompt) or not answer.startswith(_ANSWER):
        raise ConfigError(
            "the base model's chat template does not go on from its generation prompt to the "
            f"answer ({whole[-60:]!r}); put another chat_template.jinja beside it"
        )
    rest = answer.removeprefix(_ANSWER).lstrip()
    ends = [token for token in special if token and rest.startswith(token)]
    if not ends:
        raise ConfigError(
            f"the base model's chat template ends an answer with {rest[:20]!r}, no special token "
            "of its tokenizer: it could not learn to stop; put another chat_template.jinja there"
        )
    return max(ends, key=len)


def _require_equal(tokenizer: Any, template: str, system: bool) -> None:
    """Raise ConfigError unless the wrapped template renders what the own one renders."""
    head = [{"role": "system", "content": _SYSTEM_TEXT}] if system else []
    text = _TEXT if system else f"{_SYSTEM_TEXT}\n\n{_TEXT}"
    theirs = _render(tokenizer, None, [*head, {"role": "user", "content": text}], prompt=True)
    ours = with_instruction(template, _SYSTEM_TEXT)
    found = _render(tokenizer, ours, [{"role": "user", "content": _TEXT}], prompt=True)
    if found != theirs and "strftime_now" not in template:
        raise ConfigError(
            "the base model's chat template renders otherwise once the instruction is put before "
            f"it ({found!r} instead of {theirs!r}); put another chat_template.jinja beside it"
        )


def _own(tokenizer: Any, own: str | None, template: str) -> str:
    """Say how the tokenizer's own template compares on one question with a system message."""
    if own is None:
        return "none"
    turns = [{"role": "system", "content": _SYSTEM_TEXT}, {"role": "user", "content": _TEXT}]
    try:
        theirs = _render(tokenizer, None, turns, prompt=True)
    except (jinja2.TemplateError, TypeError, ValueError):
        return "takes no system message"
    ours = _render(tokenizer, with_instruction(template, ""), turns, prompt=True)
    return "same" if ours == theirs else "differs"


def _probe(tokenizer: Any, template: str) -> dict[str, str]:
    turns = [{"role": "user", "content": _TEXT}]
    ours = with_instruction(template, _SYSTEM_TEXT)
    prompt = _render(tokenizer, ours, turns, prompt=True)
    answered = [*turns, {"role": "assistant", "content": _ANSWER}]
    whole = _render(tokenizer, ours, answered, prompt=False)
    return {
        "instruction": _SYSTEM_TEXT,
        "input": _TEXT,
        "answer": _ANSWER,
        "prompt": prompt,
        "whole": whole,
    }


def _render(tokenizer: Any, template: str | None, messages: Any, *, prompt: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
    )
