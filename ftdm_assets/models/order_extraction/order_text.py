"""Writes the message of one order: a mail, a list, a chat or a form, and what is right to answer.

Invariants: the label says what the sentences were filled with and nothing else; typing noise never
touches a slot; in a message typed in small letters throughout, the label is in small letters too.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ftdm_assets.made_data.edits import common_first, misspelt
from ftdm_assets.models.order_extraction import order_values as values
from ftdm_assets.models.order_extraction.order_lines import (
    in_fields,
    in_list,
    in_short,
    in_words,
    unit_word,
)
from ftdm_assets.models.order_extraction.order_parts import Line, Output, Parts

Style = Literal["prose", "list", "chat", "form", "corrected", "change", "none"]
_STYLES: dict[Style, float] = {
    "prose": 38, "list": 20, "chat": 22, "form": 7, "corrected": 5, "change": 2.5, "none": 5.5,
}  # fmt: skip
_CHANCES = {"customer": 0.5, "reference": 0.33, "day": 0.5, "place": 0.4, "express": 0.2}
_NOT_EXPRESS, _NO_PLACE, _NOISE = 0.08, 0.1, 0.15
_LINE_COUNTS = (6, 3, 1.5, 0.5)


@dataclass(frozen=True)
class Facts:
    """What one message says beside its articles; None is what it does not say."""

    customer: str | None
    reference: str | None
    day: values.Day | None
    place: values.Shown | None
    express: bool

    def output(self, articles: Sequence[values.Article] = ()) -> Output:
        """Return the right answer."""
        return Output(
            customer_number=self.customer,
            delivery_date=self.day.label if self.day else None,
            express=self.express,
            lines=tuple(article.line for article in articles),
            reference=self.reference,
            ship_to=self.place.label if self.place else None,
        )


def write_order(parts: Parts, rng: random.Random, extra: str = "") -> tuple[str, Output]:
    """Return a message and its right answer; `extra` is a sentence that comes in beside."""
    style = rng.choices(list(_STYLES), list(_STYLES.values()))[0]
    text, output = _Writer(parts, rng, extra).write(style)
    return re.sub(r"(?<!\.)\.\.(?!\.)", ".", text), output


class _Writer:
    def __init__(self, parts: Parts, rng: random.Random, extra: str) -> None:
        self.said, self.catalogue = parts.sentences, parts.catalogue
        self.units: dict[str, Any] = parts.catalogue["units"]
        self.rng, self.extra = rng, extra

    def write(self, style: Style) -> tuple[str, Output]:
        facts = self._facts()
        if style == "chat":
            return self._chat(facts)
        if style == "form":
            return self._form(facts)
        if style == "none":
            facts = replace(facts, day=None, place=None, express=False)
            return self._mail([self._sentence("no_order")], facts), facts.output()
        if style == "change":
            return self._change(facts)
        if style == "corrected":
            return self._corrected(facts)
        articles = self._articles(shortest=2 if style == "list" and self._by_chance(0.85) else 1)
        if style == "list":
            body = f"{self._sentence('list_sentences')}\n{in_list(articles, self.units, self.rng)}"
        else:
            lines = in_words(articles, self.units, self.rng)
            body = self._sentence("order_sentences", lines=lines)
        return self._mail([body], facts), facts.output(articles)

    def _facts(self) -> Facts:
        drawn = {name: self._by_chance(chance) for name, chance in _CHANCES.items()}
        return Facts(
            customer=values.customer(self.rng) if drawn["customer"] else None,
            reference=values.reference(self.catalogue, self.rng) if drawn["reference"] else None,
            day=values.day(self.catalogue, self.rng) if drawn["day"] else None,
            place=values.place(self.catalogue, self.rng) if drawn["place"] else None,
            express=drawn["express"],
        )

    def _articles(self, shortest: int = 1) -> list[values.Article]:
        count = self.rng.choices(range(1, len(_LINE_COUNTS) + 1), _LINE_COUNTS)[0]
        found: dict[str, values.Article] = {}
        while len(found) < max(count, shortest):
            article = values.article(self.catalogue, self.rng)
            found.setdefault(article.line.article, article)
        return list(found.values())

    def _mail(self, bodies: list[str], facts: Facts) -> str:
        about = self._about(facts)
        if self._by_chance(0.4):
            about.append(self._sentence("asides"))
        if self.extra:
            about.append(self.extra)
        self.rng.shuffle(about)
        first = about[: self.rng.choice((0, 0, 0, 1))]
        middle = [*first, *bodies, *about[len(first) :]]
        has_list = any("\n" in body for body in bodies)
        gap = "\n\n" if has_list or self._by_chance(0.2) else " "
        text = gap.join(_joined(group) for group in (first, bodies, about[len(first) :]) if group)
        text = text if gap != " " else _joined(middle)
        opening = common_first(self.said["openings"], self.rng) if self._by_chance(0.6) else ""
        closing = common_first(self.said["closings"], self.rng) if self._by_chance(0.6) else ""
        if closing and self._by_chance(0.7):
            sign = self.rng.choice(self.said["signatures"])
            closing += self.rng.choice((",\n", "\n", ", ")) + sign
        outer = "\n\n" if has_list or self._by_chance(0.5) else self.rng.choice((" ", "\n"))
        around = (self._filled(opening), text, self._filled(closing))
        return outer.join(part for part in around if part)

    def _about(self, facts: Facts) -> list[str]:
        said = []
        if facts.customer:
            said.append(self._sentence("customer", customer=facts.customer))
        if facts.reference:
            said.append(self._sentence("reference", reference=facts.reference))
        if facts.day:
            said.append(self._sentence(f"day_{facts.day.kind}", day=facts.day.text))
        if facts.place:
            said.append(self._sentence("place", place=facts.place.text))
        elif self._by_chance(_NO_PLACE):
            said.append(self._sentence("no_place"))
        if facts.express:
            said.append(self._sentence("express"))
        elif self._by_chance(_NOT_EXPRESS):
            said.append(self._sentence("not_express"))
        return said

    def _corrected(self, facts: Facts) -> tuple[str, Output]:
        [article] = self._articles()[:1]
        line = article.line
        wrong = next(
            count
            for count in iter(lambda: values.quantity(line.unit, self.rng), None)
            if count != line.quantity
        )
        body = self._sentence(
            "corrected_sentences",
            wrong=str(wrong),
            quantity=str(line.quantity),
            unit=unit_word(line.unit, 2, self.units),
            article=article.text,
        )
        if facts.day and facts.day.kind == "on" and self._by_chance(0.5):
            day = facts.day
            other = values.day(self.catalogue, self.rng, "on")
            body += " " + self._sentence("corrected_days", wrong=other.text, day=day.text)
            told = replace(facts, day=None)
            return self._mail([body], told), facts.output([article])
        return self._mail([body], facts), facts.output([article])

    def _change(self, facts: Facts) -> tuple[str, Output]:
        form = self.rng.choice(self.said["order_changes"])
        reference = values.reference(self.catalogue, self.rng) if "{reference}" in form else None
        day = values.day(self.catalogue, self.rng, "on") if "{day}" in form else None
        place = values.place(self.catalogue, self.rng) if "{place}" in form else None
        body = self._filled(
            form,
            reference=reference or "",
            day=day.text if day else "",
            place=place.text if place else "",
        )
        whole = Facts(facts.customer, reference, day, place, express=False)
        return self._mail([body], Facts(facts.customer, None, None, None, False)), whole.output()

    def _chat(self, facts: Facts) -> tuple[str, Output]:
        articles = self._articles()
        body = self._sentence("order_chats", lines=in_short(articles, self.units, self.rng))
        tags = self._tags(facts)
        if self._by_chance(0.3):
            tags.append(self._sentence("chat_asides"))
        if self.extra:
            tags.append(self.extra)
        self.rng.shuffle(tags)
        if self._by_chance(0.5):
            tags.insert(0, self._filled(common_first(self.said["chat_openings"], self.rng)))
            tags.insert(1, body)
        else:
            tags.insert(0, body)
        if self._by_chance(0.35):
            tags.append(self._filled(common_first(self.said["chat_closings"], self.rng)))
        text = self.rng.choice((". ", ", ", " ", "\n", ". ")).join(tags)
        text = re.sub(r"([!?.,:]),? ?[.,](?=\s)", r"\1", text)
        if self._by_chance(0.55):
            return text.lower(), _in_small_letters(facts.output(articles))
        return text, facts.output(articles)

    def _tags(self, facts: Facts) -> list[str]:
        tags = []
        if facts.customer:
            tags.append(self._sentence("customer_tags", customer=facts.customer))
        if facts.reference:
            tags.append(self._sentence("reference_tags", reference=facts.reference))
        if facts.day:
            tags.append(self._sentence("day_tags", day=facts.day.text))
        if facts.place:
            tags.append(self._sentence("place_tags", place=facts.place.text))
        if facts.express:
            tags.append(self._sentence("express_tags"))
        return tags

    def _form(self, facts: Facts) -> tuple[str, Output]:
        form, articles = self.said["form"], self._articles()
        given = {
            "customer": facts.customer,
            "reference": facts.reference,
            "day": facts.day.text if facts.day else None,
            "place": facts.place.text if facts.place else None,
        }
        lines = []
        for name, value in given.items():
            if value is None and self._by_chance(0.6):
                continue
            shown = self.rng.choice(form["empty"]) if value is None else value
            lines.append(f"{self.rng.choice(form[name])}: {shown}".rstrip())
        if facts.express:
            lines.append(self.rng.choice(form["express"]))
        elif self._by_chance(0.3):
            lines.append(self.rng.choice(form["not_express"]))
        self.rng.shuffle(lines)
        at = self.rng.randrange(len(lines) + 1)
        lines.insert(at, in_fields(articles, self.units, self.rng))
        if self._by_chance(0.5):
            lines.insert(0, self.rng.choice(form["heads"]))
        if self.extra:
            lines.append(self.extra)
        return "\n".join(lines), facts.output(articles)

    def _sentence(self, name: str, **slots: str) -> str:
        form = self.rng.choice(self.said[name])
        if self._by_chance(_NOISE):
            form = misspelt(form, 1, self.rng)
        return self._filled(form, **slots)

    def _filled(self, form: str, **slots: str) -> str:
        rng, catalogue = self.rng, self.catalogue
        other, article = values.article(catalogue, rng), values.article(catalogue, rng)
        unit = unit_word(article.line.unit, 2, self.units)
        besides = {
            "other_article": other.text,
            "other_quantity": str(rng.randrange(2, 40)),
            "other_unit": unit_word(other.line.unit, 2, self.units),
            "other_day": values.day(catalogue, rng, "on").text,
            "article": article.text,
            "quantity": str(max(2, article.line.quantity)),
            "unit": unit,
            "number": str(rng.randrange(20_000, 990_000)),
            "number_small": str(rng.randrange(3, 90)),
            "years": str(rng.randrange(2, 15)),
            "hour": str(rng.randrange(6, 10)),
            "name": rng.choice(catalogue["names"]),
            "surname": rng.choice(catalogue["surnames"]),
            "town": rng.choice(catalogue["towns"]),
            "company": rng.choice(catalogue["companies"]),
        }
        return form.format_map(besides | slots)

    def _by_chance(self, chance: float) -> bool:
        return self.rng.random() < chance


def _joined(sentences: Sequence[str]) -> str:
    ended = [part if part[-1] in ".!?:," else part + "." for part in sentences]
    # A list keeps its last line as it is.
    return " ".join(
        whole if "\n" not in plain else f"{plain}\n"
        for whole, plain in zip(ended, sentences, strict=True)
    ).rstrip()


def _in_small_letters(output: Output) -> Output:
    def small(text: str | None) -> str | None:
        return text.lower() if text else text

    return Output(
        customer_number=small(output.customer_number),
        delivery_date=small(output.delivery_date),
        express=output.express,
        lines=tuple(Line(line.article.lower(), line.quantity, line.unit) for line in output.lines),
        reference=small(output.reference),
        ship_to=small(output.ship_to),
    )
