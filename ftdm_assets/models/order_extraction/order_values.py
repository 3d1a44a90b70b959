"""Draws what an order says, before it is put into words.

Invariant: a value's label is a piece of how it is shown (an address over several lines is joined by
commas), so that it can be told from the message alone.
"""

import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from ftdm_assets.models.order_extraction.order_parts import Line

DayKind = Literal["on", "free", "in"]
_FIRST_DAY = date(2026, 8, 10)
_LEADS = ("the ", "our ")
_COLOURED = {"piece", "pair", "roll"}
_NAMED = {"piece", "box", "pack", "carton", "set"}


@dataclass(frozen=True)
class Shown:
    """A value as the message shows it, and as the label says it."""

    text: str
    label: str


@dataclass(frozen=True)
class Day(Shown):
    """A delivery date; `kind` says which words it stands with."""

    kind: DayKind


@dataclass(frozen=True)
class Article:
    """An ordered article; `text` is how the message calls it."""

    text: str
    line: Line


def shown(text: str) -> Shown:
    """Return a text whose leading article or possessive is not part of the label."""
    lead = next((word for word in _LEADS if text.startswith(word)), "")
    return Shown(text, text.removeprefix(lead))


def customer(rng: random.Random) -> str:
    """Draw a customer number."""
    number = rng.randrange(10_000, 99_999)
    form = rng.choices(("{0}", "C-{1}", "K{0}", "TW-{1}"), (5, 2, 1.5, 1.5))[0]
    return form.format(number, number // 10)


def reference(catalogue: dict[str, Any], rng: random.Random) -> str:
    """Draw a purchase order, job or commission."""
    number = rng.randrange(1000, 9999)
    initials = "".join(rng.choice("abdeghjklmnprstw") for _ in range(4))
    forms = (
        f"PO-{number}{number % 10}",
        f"45{number}{number % 7}{number % 9}",
        f"{number}-{initials[0].upper()}",
        f"{initials[:2].upper()}/{number}",
        f"2026-{number // 10}",
        f"{initials[:2]}/{initials[2:]}",
        f"{initials[:3].upper()}-{number // 100}",
        f"{number}",
        str(rng.choice(catalogue["reference_words"])),
    )
    return rng.choice(forms)


def day(catalogue: dict[str, Any], rng: random.Random, kind: DayKind | None = None) -> Day:
    """Draw a delivery date, of a kind if one is given."""
    kind = kind or rng.choices(("on", "free", "in"), (70, 17, 13))[0]
    if kind == "free":
        text = rng.choice(catalogue["free_days"])
        return Day(text, text, kind)
    moment = _FIRST_DAY + timedelta(days=rng.randrange(330))
    month = catalogue["months"][moment.month - 1]
    if kind == "in":
        form = rng.choice(("week {week}", "the first week of {month}", "mid {month}", "{month}"))
        text = form.format(week=moment.isocalendar().week, month=month)
    else:
        text = _on_day(moment, month, catalogue, rng)
    plain = shown(text)
    return Day(plain.text, plain.label, kind)


def _on_day(moment: date, month: str, catalogue: dict[str, Any], rng: random.Random) -> str:
    name = moment.strftime("%A")
    weekday = rng.choice(catalogue["weekdays"])
    forms = (
        weekday,
        weekday,
        f"{moment.day} {month}",
        f"{moment.day} {month}",
        f"{month} {moment.day}",
        f"{moment.day}{_ordinal(moment.day)} {month}",
        f"{moment.day}{_ordinal(moment.day)} of {month}",
        f"{name}, {moment.day} {month}",
        f"{name} {moment.day} {month}",
        f"{moment.day:02d}/{moment.month:02d}",
        f"{moment.day:02d}.{moment.month:02d}.",
        moment.isoformat(),
        f"{name[:3]} {moment.day} {month[:3]}",
        f"the {moment.day}{_ordinal(moment.day)}",
    )
    return rng.choice(forms)


def _ordinal(number: int) -> str:
    return {1: "st", 21: "st", 31: "st", 2: "nd", 22: "nd", 3: "rd", 23: "rd"}.get(number, "th")


def place(catalogue: dict[str, Any], rng: random.Random) -> Shown:
    """Draw where the goods go."""
    if rng.random() < 0.45:
        return shown(rng.choice(catalogue["sites"]))
    street = f"{rng.randrange(1, 140)} {rng.choice(catalogue['streets'])}"
    parts = [street, str(rng.choice(catalogue["towns"]))]
    drawn = rng.random()
    if drawn < 0.3:
        parts = [
            str(rng.choice(catalogue["units_of_address"])),
            parts[0].split(" ", 1)[1],
            parts[1],
        ]
    elif drawn < 0.5:
        parts = [str(rng.choice(catalogue["companies"])), *parts]
    return Shown(", ".join(parts), ", ".join(parts))


def article(catalogue: dict[str, Any], rng: random.Random) -> Article:
    """Draw an article, how it is called, its unit and its quantity."""
    if rng.random() < 0.55:
        units = list(catalogue["articles"])
        weights = [len(catalogue["articles"][unit]) ** 0.7 for unit in units]
        unit = rng.choices(units, weights)[0]
        count = quantity(unit, rng)
        name = str(rng.choice(catalogue["articles"][unit]))
        name = _one(name) if unit == "piece" and count == 1 else name
        if unit in _COLOURED and rng.random() < 0.3:
            name = f"{rng.choice(catalogue['colours'])} {name}"
        return Article(name, Line(name, count, unit))
    unit = rng.choices(
        ("piece", "box", "pack", "carton", "roll", "bag", "set", "pair", "can", "bottle", "pallet"),
        (12, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1),
    )[0]
    count, code = quantity(unit, rng), _code(rng)
    noun = str(rng.choice(catalogue["coded"]))
    named = unit in _NAMED and rng.random() < 0.6
    called = f"{noun if count == 1 else _many(noun)} {code}" if named else code
    return Article(called, Line(code, count, unit))


def quantity(unit: str, rng: random.Random) -> int:
    """Draw a quantity that is usual for the unit."""
    if unit == "pallet":
        return rng.randrange(1, 7)
    small, large = rng.randrange(1, 13), 5 * rng.randrange(1, 41)
    if unit in {"kg", "litre", "metre"}:
        return rng.choice((small, large))
    huge = 100 * rng.randrange(2, 25) if unit == "piece" else rng.randrange(10, 49)
    return rng.choices((small, large, rng.randrange(10, 60), huge), (5, 2, 2, 1))[0]


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHKLMNPRSTVWX") for _ in range(3))
    number = rng.randrange(10, 9999)
    forms = (
        f"{letters[:2]}-{number % 1000}",
        f"{letters[:2]}-{number % 100}",
        f"{letters}-{number % 1000}",
        f"{letters[0]}{number}",
        f"{10 + number % 89}-{100 + number % 899}",
        f"{letters[:2]}-{number % 100}-{letters[2]}",
        f"{1000 + number % 8999}-{letters[0]}",
    )
    return rng.choice(forms)


def _one(name: str) -> str:
    for ending, single in (("knives", "knife"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")):
        if name.endswith(ending):
            return name.removesuffix(ending) + single
    return name if name.endswith("shears") else name.removesuffix("s")


def _many(noun: str) -> str:
    return noun + ("es" if noun.endswith("ch") else "s")
