"""The labelling rules of orders, as far as a script can hold an answer against its message."""

import re
from typing import Any

from ftdm_assets.models.order_extraction.order_parts import load_parts

FORMS = load_parts().catalogue["units"]
EXPRESS = re.compile(
    r"\b(?:express|urgent|asap|as soon as possible|as fast as|fastest|overnight|rush|hurry|"
    r"same.day|emergency|immediately|priority|quickly|expedite|can't wait)\b",
    re.IGNORECASE,
)
DECLINED = re.compile(
    r"\b(?:no|not|isn't|don't|without|needn't|bother)\b[^.]{0,45}(?:express|urgent|rush|hurry)"
    r"|express (?:isn't|: no)|(?:express|urgent): no|priority: normal",
    re.IGNORECASE,
)
ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
WORDS = {word: number for number, word in enumerate(ONES.split(), start=1)} | {
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30,
    "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
    "dozen": 12, "a": 1, "an": 1, "couple": 2, "single": 1, "pair": 1, "each": 1, "the": 1,
    "both": 2, "ten": 10,
}  # fmt: skip


def _quantities(text: str) -> set[int]:
    """Every number that a text holds, in figures or in words."""
    found = {int(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})*", text)}
    words = re.findall(r"[a-z]+(?:-[a-z]+)?", text.lower())
    for word in words:
        tens, _, rest = word.partition("-")
        if tens in WORDS:
            found.add(WORDS[tens] + WORDS.get(rest, 0))
    return found | ({6} if "half a dozen" in text.lower() else set())


def undecidable(text: str, answer: dict[str, Any]) -> list[str]:
    """What the answer says and the text does not, by the rules of SOURCE.md."""
    joined = re.sub(r"\s*\n\s*", ", ", text)
    names = ("customer_number", "delivery_date", "reference", "ship_to")
    said = [answer[name] for name in names if answer[name] is not None]
    said += [line["article"] for line in answer["lines"]]
    missing = [value for value in said if value not in text and value not in joined]
    quantities = _quantities(text)
    for line in answer["lines"]:
        if line["quantity"] not in quantities:
            missing.append(str(line["quantity"]))
        unit = FORMS[line["unit"]]
        words = "|".join(
            map(re.escape, (unit["one"], unit["many"], *unit["short"], *unit.get("also", ())))
        )
        named = re.search(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])", text, re.IGNORECASE)
        if line["unit"] != "piece" and not named:
            missing.append(line["unit"])
    return missing
