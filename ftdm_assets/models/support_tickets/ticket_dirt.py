"""Plants the dirt: what a cleaning must drop or mask, each piece recorded in the key.

Invariants: a base ticket carries at most one kind of dirt; a copy is annotated after its
original, so the original has the lower record id; labels stay within the taxonomy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ftdm_assets.models.support_tickets.ticket_edits import retyped, reworded
from ftdm_assets.models.support_tickets.ticket_parts import ANNOTATORS, Draft, Parts, stream
from ftdm_assets.models.support_tickets.ticket_text import fill, render

COUNTS = {
    "near_duplicate": 40,
    "personal_data": 30,
    "exact_duplicate": 40,
    "wrong_label": 40,
    "overlap": 160,
    "conflict": 20,
    "empty": 12,
    "too_long": 8,
    "golden_leak": 15,
}
NEAR_FLOOR = 0.86
LEAK_FLOOR = 0.88
PASTE_CHARACTERS = 4200
EMPTY_TEXTS = (
    "",
    " ",
    "   ",
    "\n",
    "\t",
    "\n\n",
    " \n ",
    "\u00a0",
    "\r\n",
    "  \t",
    "\u2003",
    "\n \n",
)


def _later(place: float, *name: str) -> float:
    return place + (1.0 - place) * stream("later", *name).random()


def near_duplicates(bases: Iterable[Draft], parts: Parts) -> list[Draft]:
    """Return each base again, a word or two changed, by the same annotator."""
    return [
        replace(
            base,
            key=f"{base.key}+near",
            text=reworded(base.text, parts, NEAR_FLOOR, stream("near", base.key)),
            place=_later(base.place, "near", base.key),
            kind="near_duplicate",
            detail="a word or two changed",
            expected="dropped",
            related=base.key,
        )
        for base in bases
    ]


def exact_duplicates(bases: Iterable[Draft]) -> list[Draft]:
    """Return each base again, typed with other case, white space or marks."""
    return [
        replace(
            base,
            key=f"{base.key}+exact",
            text=retyped(base.text, stream("exact", base.key)),
            place=_later(base.place, "exact", base.key),
            kind="exact_duplicate",
            detail="exported twice: other case, white space or punctuation",
            expected="dropped",
            related=base.key,
        )
        for base in bases
    ]


def wrong_labels(bases: Iterable[Draft], parts: Parts) -> list[Draft]:
    """Return the bases with a clearly wrong label (no neighbour of the right one)."""
    neighbours: Mapping[str, list[str]] = parts.shared["neighbours"]
    drafts = []
    for base in bases:
        near = {base.label, *neighbours[base.label]}
        near |= {label for label, others in neighbours.items() if base.label in others}
        wrong = stream("wrong", base.key).choice([c for c in parts.cores if c not in near])
        drafts.append(
            replace(
                base,
                label=wrong,
                kind="wrong_label",
                detail=f"right label: {base.label}",
                expected="dropped",
            )
        )
    return drafts


def personal_data(bases: Iterable[Draft], parts: Parts) -> list[Draft]:
    """Return the bases with a mail address, phone, card or account number in them."""
    drafts = []
    for base in bases:
        rng = stream("personal", base.key)
        money = base.label in parts.shared["money_categories"]
        kinds = [rng.choice(["CARD", "IBAN"] if money else ["EMAIL", "PHONE"])]
        if rng.random() < 0.2:
            kinds.append("EMAIL" if kinds[0] != "EMAIL" else "PHONE")
        values = parts.shared["personal_values"]
        sentences = [fill(rng.choice(parts.shared["personal"][k]), values, rng) for k in kinds]
        category, number = base.key.split("/")
        text = render(base.key, parts.cores[category][int(number)], parts, " ".join(sentences))
        drafts.append(
            replace(
                base,
                text=text,
                kind="personal_data",
                detail=",".join(sorted(kinds)),
                expected="masked",
            )
        )
    return drafts


def overlaps(bases: Iterable[Draft], parts: Parts) -> list[Draft]:
    """Return the same texts labelled by one or two more annotators.

    Only a ticket with three annotators has a dissenter, so that the majority is right.
    """
    drafts = []
    for index, base in enumerate(bases):
        rng = stream("overlap", base.key)
        others = rng.sample([a for a in ANNOTATORS if a != base.annotator], 2)
        dissent = index % 20 == 0
        for annotator in others if dissent or rng.random() < 0.4 else others[:1]:
            differs = dissent and annotator == others[1]
            drafts.append(
                replace(
                    base,
                    key=f"{base.key}+{annotator}",
                    label=rng.choice(parts.shared["neighbours"][base.label])
                    if differs
                    else base.label,
                    annotator=annotator,
                    place=_later(base.place, "overlap", base.key, annotator),
                    kind="overlap",
                    detail="dissents from the two others" if differs else "same label",
                    expected="dropped",
                    related=base.key,
                )
            )
    return drafts


def conflicts(parts: Parts) -> list[Draft]:
    """Return pairs of one text with two labels and no majority."""
    drafts = []
    for number, case in enumerate(parts.shared["ambiguous"]):
        rng = stream("conflict", str(number))
        keys = (f"conflict/{number}/a", f"conflict/{number}/b")
        annotators = rng.sample(ANNOTATORS, 2)
        for key, other, label, annotator in zip(
            keys, reversed(keys), case["labels"], annotators, strict=True
        ):
            detail = "two annotators, two labels"
            drafts.append(
                Draft(
                    key, case["text"], label, annotator, rng.random(),
                    "conflict", detail, "dropped", other,
                )
            )  # fmt: skip
    return drafts


def empties(parts: Parts) -> list[Draft]:
    """Return rows without any text."""
    rng = stream("empty")
    return [
        Draft(
            f"empty/{number}", text, rng.choice(list(parts.cores)), rng.choice(ANNOTATORS),
            rng.random(), "empty", "no text", "dropped",
        )
        for number, text in enumerate(EMPTY_TEXTS)
    ]  # fmt: skip


def _paste(intro: str, lines: list[str], pick: Callable[[int, int], int]) -> str:
    text = intro + "\n"
    minute = pick(0, 600)
    while len(text) <= PASTE_CHARACTERS:
        minute += pick(1, 9)
        time = f"{minute // 60 % 24:02d}:{minute % 60:02d}"
        line = lines[pick(0, len(lines) - 1)]
        text += "\n" + line.format(time=time, number=pick(11, 899))
    return text


def pastes(parts: Parts) -> list[Draft]:
    """Return tickets that consist of a pasted log or a whole conversation."""
    drafts = []
    for number, case in enumerate(parts.shared["pastes"]):
        rng = stream("paste", str(number))
        lines = parts.shared["paste_lines"][case["lines"]]
        text = _paste(case["text"], lines, rng.randint)
        detail = f"{len(text)} characters: pasted {case['lines']}"
        drafts.append(
            Draft(
                f"paste/{number}", text, case["label"], rng.choice(ANNOTATORS), rng.random(),
                "too_long", detail, "dropped",
            )
        )  # fmt: skip
    return drafts


def golden_leaks(golden: list[dict[str, str]], parts: Parts) -> list[Draft]:
    """Return golden examples that slipped into the tickets: eight exactly, the rest nearly."""
    rng = stream("leak")
    long_enough = sorted(
        (example for example in golden if len(example["input"]) > 110),
        key=lambda example: example["example_id"],
    )
    drafts = []
    for number, example in enumerate(rng.sample(long_enough, COUNTS["golden_leak"])):
        exact = number < 8
        text = example["input"]
        if not exact:
            text = reworded(text, parts, LEAK_FLOOR, rng)
        drafts.append(
            Draft(
                f"leak/{number}", text, example["output"], rng.choice(ANNOTATORS), rng.random(),
                "golden_leak", "exact copy" if exact else "nearly a copy", "dropped",
                example["example_id"],
            )
        )  # fmt: skip
    return drafts
