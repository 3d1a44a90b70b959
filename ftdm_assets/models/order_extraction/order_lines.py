"""Puts the articles of an order into words: in a sentence, in a list, in the fields of a form."""

import random
from collections.abc import Sequence
from typing import Any

from ftdm_assets.models.order_extraction.order_values import Article

_WORDS = [
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
]
_TENS = ["no", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_LISTS = (
    "- {count} {article}",
    "* {count} {article}",
    "{count} {article}",
    "{number}. {count} {article}",
    "{article}: {count}",
    "{article} - {count}",
    "- {article}, {count}",
    "{count} of {article}",
)
_FIELDS = (
    "Item: {article} / Qty: {quantity} / Unit: {unit}",
    "Article {article}, quantity {quantity}, unit {unit}",
    "{number} | {article} | {quantity} | {unit}",
    "Pos. {number}: {article}; {quantity} {units}",
    "Article: {article}\nQuantity: {count}",
    "Line {number}: {count} {article}",
    "{article}\t{quantity}\t{unit}",
)


def in_words(articles: Sequence[Article], units: dict[str, Any], rng: random.Random) -> str:
    """Return the articles as a part of a sentence."""
    parts = [_said(article, units, rng) for article in articles]
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} {rng.choice(('and', 'and', 'and', 'plus', '&'))} {parts[-1]}"


def in_short(articles: Sequence[Article], units: dict[str, Any], rng: random.Random) -> str:
    """Return the articles as a chat has them."""
    parts = []
    for article in articles:
        line = article.line
        if line.unit == "piece":
            form = rng.choice(("{0}x {1}", "{0} {1}", "{0} x {1}", "{0} pcs {1}"))
            parts.append(form.format(line.quantity, article.text))
        else:
            short = rng.choice((*units[line.unit]["short"], unit_word(line.unit, 2, units)))
            parts.append(f"{line.quantity} {short} {article.text}")
    return rng.choice((", ", " and ", " + ", " n ", ", ")).join(parts)


def in_list(articles: Sequence[Article], units: dict[str, Any], rng: random.Random) -> str:
    """Return the articles one a line, in one form."""
    return _listed(rng.choice(_LISTS), articles, units, rng)


def in_fields(articles: Sequence[Article], units: dict[str, Any], rng: random.Random) -> str:
    """Return the articles as the lines of a form."""
    return _listed(rng.choice(_FIELDS), articles, units, rng)


def _listed(
    form: str, articles: Sequence[Article], units: dict[str, Any], rng: random.Random
) -> str:
    short = rng.random() < 0.4
    lines = []
    for number, article in enumerate(articles, start=1):
        line = article.line
        word = unit_word(line.unit, line.quantity, units)
        if short and line.quantity > 1:
            word = units[line.unit]["short"][0]
        quantity = figure(line.quantity, rng)
        values = {
            "number": number,
            "article": article.text,
            "quantity": quantity,
            "unit": unit_word(line.unit, 1, units),
            "units": word,
            "count": f"{quantity} {word}",
        }
        lines.append(form.format_map(values))
    return "\n".join(lines)


def unit_word(unit: str, quantity: int, units: dict[str, Any]) -> str:
    """Return the unit's word for so many."""
    return str(units[unit]["one" if quantity == 1 else "many"])


def figure(quantity: int, rng: random.Random) -> str:
    """Return a quantity in figures, large ones at times with a comma."""
    return f"{quantity:,}" if rng.random() < 0.3 else str(quantity)


def _said(article: Article, units: dict[str, Any], rng: random.Random) -> str:
    line = article.line
    count = _spelt(line.quantity, rng) if rng.random() < 0.2 else figure(line.quantity, rng)
    if line.unit == "piece":
        # A name in the plural is counted by itself; before a code the word is as good as none.
        forms: tuple[str, ...] = ("{0} {1}", "{0} {1}", "{0} {1}", "{0} pieces of {1}", "{0} x {1}")
        if line.quantity == 1 or not count[0].isdigit():
            forms = ("{0} {1}",)
        return rng.choice(forms).format(count, article.text)
    word = unit_word(line.unit, line.quantity, units)
    return f"{count} {word} {rng.choice(('of ', 'of ', ''))}{article.text}"


def _spelt(quantity: int, rng: random.Random) -> str:
    if quantity == 1:
        return rng.choice(("one", "a"))
    if quantity == 12 and rng.random() < 0.5:
        return "a dozen"
    if quantity == 6 and rng.random() < 0.3:
        return "half a dozen"
    if quantity < len(_WORDS):
        return _WORDS[quantity]
    tens, rest = divmod(quantity, 10)
    if tens >= len(_TENS):
        return str(quantity)
    return _TENS[tens] + (f"-{_WORDS[rest]}" if rest else "")
