"""Plants the dirt that is the orders' own: wrong answers, and answers that are no valid JSON.

Invariants: a base order carries at most one kind of dirt; a wrong answer keeps the schema, an
invalid one breaks it or is no JSON; the key holds the right answer of both.
"""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ftdm_assets.made_data.drafts import Draft
from ftdm_assets.made_data.personal_values import personal_values
from ftdm_assets.models.order_extraction import order_values as values
from ftdm_assets.models.order_extraction.order_parts import Parts, output_text, stream
from ftdm_assets.models.order_extraction.order_text import write_order

COUNTS = {
    "near_duplicate": 20,
    "personal_data": 20,
    "exact_duplicate": 20,
    "wrong_label": 30,
    "invalid_json": 16,
    "schema_breach": 14,
    "not_canonical": 18,
    "hidden_instruction": 140,
    "overlap": 60,
    "conflict": 10,
    "empty": 8,
    "too_long": 5,
    "golden_leak": 12,
}

Answer = dict[str, Any]
Error = tuple[str, Answer]


def wrong_labels(bases: Iterable[Draft], parts: Parts) -> list[Draft]:
    """Return the bases with an answer that keeps the schema and is not what the message says."""
    drafts = []
    for base in bases:
        what, answer = _mistake(json.loads(base.label), parts, stream("wrong", base.key))
        drafts.append(_with_label(base, "wrong_label", what, output_text(answer)))
    return drafts


def dissent(parts: Parts, base: Draft, rng: random.Random) -> str:
    """Return the answer of an annotator who is wrong."""
    return output_text(_mistake(json.loads(base.label), parts, rng)[1])


def invalid_json(bases: Iterable[Draft]) -> list[Draft]:
    """Return the bases with an answer that is no JSON."""
    drafts = []
    for number, base in enumerate(bases):
        what, spoil = _NO_JSON[number % len(_NO_JSON)]
        drafts.append(_with_label(base, "invalid_json", what, spoil(base.label)))
    return drafts


def schema_breaches(bases: Iterable[Draft]) -> list[Draft]:
    """Return the bases, which have lines, with an answer that is JSON and breaks the schema."""
    drafts = []
    for number, base in enumerate(bases):
        what, spoil = _BREACHES[number % len(_BREACHES)]
        spoilt = output_text(spoil(json.loads(base.label)))
        drafts.append(_with_label(base, "schema_breach", what, spoilt))
    return drafts


def not_canonical(bases: Iterable[Draft]) -> list[Draft]:
    """Return the bases with the right answer, written another way."""
    drafts = []
    for base in bases:
        answer, rng = json.loads(base.label), stream("form", base.key)
        if rng.random() < 0.5:
            what, label = "white space", json.dumps(answer, ensure_ascii=False)
        else:
            keys = list(answer)
            rng.shuffle(keys)
            what, label = "other order of keys", output_text({key: answer[key] for key in keys})
        drafts.append(
            replace(base, label=label, kind="not_canonical", detail=what, expected="rewritten")
        )
    return drafts


def personal_data(bases: Iterable[tuple[Draft, int]], parts: Parts) -> list[Draft]:
    """Return the bases (with the attempt that drew them) with personal data in their message."""
    drafts = []
    for base, attempt in bases:
        rng = stream("personal", base.key)
        kind = rng.choice(list(parts.sentences["personal"]))
        form = rng.choice(parts.sentences["personal"][kind])
        value = rng.choice(personal_values()[kind.lower()])
        extra = form.format_map({kind.lower(): value})
        text, output = write_order(parts, stream("order", base.key, str(attempt)), extra)
        drafts.append(
            replace(
                base,
                text=text,
                label=output_text(output),
                kind="personal_data",
                detail=kind,
                expected="masked",
            )
        )
    return drafts


def _with_label(base: Draft, kind: str, what: str, label: str) -> Draft:
    detail = f"{what}; right output: {base.label}"
    return replace(base, label=label, kind=kind, detail=detail, expected="dropped")


def _mistake(right: Answer, parts: Parts, rng: random.Random) -> Error:
    """Return a mistake that an annotator makes, and the answer with it."""
    ways: list[Callable[[], Error]] = [lambda: ("express", right | {"express": True})]
    if right["express"]:
        ways = [lambda: ("express", right | {"express": False})]
    if right["delivery_date"]:
        ways.append(lambda: _other_day(right, parts, rng))
    if right["ship_to"]:
        ways.append(lambda: ("ship_to is missing", right | {"ship_to": None}))
    if right["reference"] or right["customer_number"]:
        ways.append(lambda: _exchanged(right))
    if right["lines"]:
        ways += [lambda: _in_a_line(right, parts, rng)] * 3
    return rng.choice(ways)()


def _other_day(right: Answer, parts: Parts, rng: random.Random) -> Error:
    days = iter(lambda: values.day(parts.catalogue, rng).label, right["delivery_date"])
    return "another delivery_date", right | {"delivery_date": next(days)}


def _exchanged(right: Answer) -> Error:
    names = ("customer_number", "reference")
    answer = right | dict(zip(names, (right[name] for name in reversed(names)), strict=True))
    return "customer_number and reference exchanged", answer


def _in_a_line(right: Answer, parts: Parts, rng: random.Random) -> Error:
    lines, at = list(right["lines"]), rng.randrange(len(right["lines"]))
    if len(lines) > 1 and rng.random() < 0.4:
        del lines[at]
        return f"line {at + 1} is missing", right | {"lines": lines}
    line = dict(lines[at])
    name = rng.choice(("article", "quantity", "unit"))
    other = values.article(parts.catalogue, rng).line
    if name == "unit":
        line[name] = rng.choice([u for u in parts.catalogue["units"] if u != line[name]])
    else:
        line[name] = other.article if name == "article" else line[name] + rng.randrange(1, 9)
    lines[at] = line
    return f"another {name} in line {at + 1}", right | {"lines": lines}


def _first_line(answer: Answer, **changes: Any) -> Answer:
    first, *rest = answer["lines"]
    return answer | {"lines": [first | changes, *rest]}


_NO_JSON: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("cut off", lambda text: text[: len(text) * 2 // 3]),
    ("single quotes", lambda text: text.replace('"', "'")),
    ("a comma too many", lambda text: text[:-1] + ",}"),
    ("a sentence before it", lambda text: "The order is: " + text),
    ("None for null", lambda text: text.replace("null", "None").replace("false", "False")),
    ("a code fence around it", lambda text: f"```json\n{text}\n```"),
    ("no braces", lambda text: text[1:-1]),
    ("a note behind it", lambda text: text + " (please check)"),
)
_BREACHES: tuple[tuple[str, Callable[[Answer], Answer]], ...] = (
    ("a unit that is none", lambda answer: _first_line(answer, unit="boxes")),
    ("quantity is a text", lambda answer: _first_line(answer, quantity="12")),
    ("no express", lambda answer: {k: v for k, v in answer.items() if k != "express"}),
    ("a field too many", lambda answer: answer | {"price": None}),
    ("express is a text", lambda answer: answer | {"express": "no"}),
    ("lines is one line", lambda answer: answer | {"lines": answer["lines"][0]}),
    ("quantity is 0", lambda answer: _first_line(answer, quantity=0)),
)
