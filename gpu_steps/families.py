"""What each base-model family asks for: chat template, end of turn, padding, modules, context.

Invariants: a template is whole text (it holds its beginning-of-text token, the task's instruction
and no variable but `messages` and `add_generation_prompt`), so that it renders the same wherever
it is read; what ends a turn is one special token; padding is another. The templates are short
copies of the families' own: turns and markers are theirs, dates, tools and default system messages
are left out. A family without a system role gets system text at the head of the first user turn.
Nothing that is said forges a turn: a special token's text inside a message is broken by a blank.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

# Stands in a template for the task's instruction, as a string literal.
INSTRUCTION = "@INSTRUCTION@"

# A preamble that gives `messages` the instruction: a system message, or the first user turn's head.
SYSTEM = """\
{%- if @INSTRUCTION@ and messages and messages[0]['role'] != 'system' -%}
{%- set messages = [{'role': 'system', 'content': @INSTRUCTION@}] + messages -%}
{%- endif %}
"""
NO_SYSTEM = """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set instruction, messages = messages[0]['content'], messages[1:] -%}
{%- else -%}
{%- set instruction = @INSTRUCTION@ -%}
{%- endif -%}
{%- if messages and instruction -%}
{%- set opening = instruction + '\\n\\n' + messages[0]['content'] -%}
{%- set messages = [{'role': messages[0]['role'], 'content': opening}] + messages[1:] -%}
{%- endif %}
"""

# A preamble that breaks the texts of special tokens in what is said: `<|im_end|>` in a user's input
# would else end the user's turn, and whoever wrote it could go on as the system.
_GUARD = """\
{%- set said = namespace(messages=[], text='') -%}
{%- for message in messages -%}
{%- if message['content'] is string -%}
{%- set said.text = message['content'] -%}
{%- for mark in @MARKS@ -%}
{%- set said.text = said.text | replace(mark, mark[0] + ' ' + mark[1:]) -%}
{%- endfor -%}
{%- set said.messages = said.messages + [dict(message, content=said.text)] -%}
{%- else -%}
{%- set said.messages = said.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = said.messages %}
"""

_CHATML = """\
{%- if messages and messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\n' + @INSTRUCTION@ + '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""
_LLAMA = """\
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{{- message['content'] + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}
"""
_MISTRAL = """\
{{- '<s>' -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ ' ' + message['content'] + '</s>' }}
{%- else -%}
{{ '[INST] ' + message['content'] + '[/INST]' }}
{%- endif -%}
{%- endfor -%}
"""
_PHI = """\
{%- for message in messages -%}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|assistant|>\\n' }}
{%- endif -%}
"""
_GEMMA = """\
{{- '<bos>' -}}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + message['content'] + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""

_SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@dataclass(frozen=True)
class Family:
    """One family of base models.

    Attributes:
        name: as the UI shows it.
        model_types: `model_type` of the configurations that it covers.
        markers: tokens that its template uses, each one special token of the tokenizer.
        template: chat template with INSTRUCTION in it.
        end_of_turn: the token that ends every answer.
        pad_token: what to pad with, never the end of turn.
        target_modules: linear modules that a LoRA adapter adapts.
        context_length: the longest context that it was made for, in tokens.
        system_role: whether its turns know the role `system`.
    """

    name: str
    model_types: tuple[str, ...]
    markers: tuple[str, ...]
    template: str
    end_of_turn: str
    pad_token: str
    target_modules: tuple[str, ...]
    context_length: int
    system_role: bool = True


_CHATML_MARKERS = ("<|im_start|>", "<|im_end|>")
FAMILIES = (
    Family(
        "Llama 3.1",
        ("llama",),
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        SYSTEM + _LLAMA,
        "<|eot_id|>",
        "<|finetune_right_pad_id|>",
        _SPLIT,
        131072,
    ),
    Family(
        "Mistral v0.3",
        ("mistral",),
        ("<s>", "[INST]", "[/INST]", "</s>"),
        NO_SYSTEM + _MISTRAL,
        "</s>",
        "<unk>",
        _SPLIT,
        32768,
        system_role=False,
    ),
    Family(
        "Phi-3",
        ("phi3",),
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        SYSTEM + _PHI,
        "<|end|>",
        "<unk>",
        _FUSED,
        131072,
    ),
    Family(
        "Gemma 2",
        ("gemma2",),
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
        NO_SYSTEM + _GEMMA,
        "<end_of_turn>",
        "<pad>",
        _SPLIT,
        8192,
        system_role=False,
    ),
    Family(
        "Qwen 2.5",
        ("qwen2",),
        _CHATML_MARKERS,
        _CHATML,
        "<|im_end|>",
        "<|endoftext|>",
        _SPLIT,
        32768,
    ),
    Family(
        "SmolLM2",
        ("llama",),
        _CHATML_MARKERS,
        _CHATML,
        "<|im_end|>",
        "<|endoftext|>",
        _SPLIT,
        8192,
    ),
)


def guarded(template: str, special: Iterable[str]) -> str:
    """Return a template that breaks the texts of these special tokens inside messages."""
    marks = sorted(token for token in special if len(token) > 1)
    return _GUARD.replace("@MARKS@", json.dumps(marks, ensure_ascii=False)) + template


def find_family(model_type: str, special: Iterable[str]) -> Family | None:
    """Return the family of a configuration's `model_type` and a tokenizer's special tokens."""
    known = set(special)
    for family in FAMILIES:
        if model_type in family.model_types and known.issuperset(family.markers):
            return family
    return None
