"""Hides an instruction to the program that reads a message in it: what a model has to pass over.

It is no dirt: the label stays what it was.

Invariants: nothing of the message goes lost; what looks like a turn of a conversation comes last,
since what followed it would belong to another one.
"""

import base64
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ftdm_assets.made_data.drafts import Draft, Stream

_SLOT = re.compile(r"\{(\w+)\}")
_ENCODED = "encoded"
_TURN = ("\n", "<|")


class Hidden(NamedTuple):
    """A message with an instruction in it.

    Attributes:
        text: the message.
        kind: how the instruction is hidden.
        values: what its slots were filled with.
    """

    text: str
    kind: str
    values: dict[str, str]


def hidden_instructions(
    bases: Iterable[Draft],
    said: Mapping[str, Any],
    slots: Callable[[Draft], Mapping[str, Sequence[str]]],
    stream: Stream,
) -> list[Draft]:
    """Return the bases with an instruction in their text, and the label that they had.

    Args:
        bases: clean drafts.
        said: the hand-written parts: `hidden_instructions` and `encodings`.
        slots: what may fill the slots of an instruction in a draft.
        stream: where the draws come from.
    """
    drafts = []
    for base in bases:
        text, kind, values = hidden_in(
            base.text,
            said["hidden_instructions"],
            said["encodings"],
            slots(base),
            stream("hidden", base.key),
        )
        detail = ": ".join([kind, *values.values()])
        drafts.append(
            replace(base, text=text, kind="hidden_instruction", detail=detail, expected="kept")
        )
    return drafts


def hidden_in(
    text: str,
    forms: Mapping[str, Sequence[str]],
    encodings: Sequence[str],
    slots: Mapping[str, Sequence[str]],
    rng: random.Random,
) -> Hidden:
    """Return a message with an instruction before it, after it or between two of its sentences.

    Args:
        text: the message.
        forms: what instructions say, by kind, with slots in braces; those of the kind `encoded`
            are written in base64.
        encodings: what stands around an encoded one, with `{code}` in it.
        slots: what may fill a slot.
        rng: decides all.
    """
    kind = rng.choice(list(forms))
    values: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        return values.setdefault(found[1], rng.choice(slots[found[1]]))

    said = _SLOT.sub(value, rng.choice(forms[kind]))
    if kind == _ENCODED:
        code = base64.b64encode(said.encode()).decode()
        said = rng.choice(encodings).replace("{code}", code)
    pieces = text.split(". ")
    place = len(pieces) if said.startswith(_TURN) else rng.randrange(len(pieces) + 1)
    before, after = ". ".join(pieces[:place]), ". ".join(pieces[place:])
    before += "." if before and after else ""
    return Hidden(_beside(_beside(before, said), after), kind, values)


def _beside(one: str, other: str) -> str:
    gap = "" if not one or not other or other.startswith(_TURN) else " "
    return one + gap + other
