"""Plants the dirt that labels of every kind can have, each piece recorded in the key.

Invariant: a copy is annotated after its original, so the original has the lower record id.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftdm_assets.made_data.drafts import Draft, Stream, later
from ftdm_assets.made_data.edits import Rewording, retyped, reworded

_NEAR_FLOOR = 0.86
_LEAK_FLOOR = 0.88
_EXACT_LEAKS = 8
_PASTE_CHARACTERS = 4200
_EMPTY_TEXTS = (
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


def near_duplicates(bases: Iterable[Draft], rewording: Rewording, stream: Stream) -> list[Draft]:
    """Return each base again, a word or two changed, by the same annotator."""
    return [
        replace(
            base,
            key=f"{base.key}+near",
            text=reworded(base.text, rewording, _NEAR_FLOOR, stream("near", base.key)),
            place=later(base.place, stream("later", "near", base.key)),
            kind="near_duplicate",
            detail="a word or two changed",
            expected="dropped",
            related=base.key,
        )
        for base in bases
    ]


def exact_duplicates(
    bases: Iterable[Draft], stream: Stream, *, keep_words: bool = False
) -> list[Draft]:
    """Return each base again, typed with other case, white space or marks."""
    how = "white space or final marks" if keep_words else "case, white space or punctuation"
    return [
        replace(
            base,
            key=f"{base.key}+exact",
            text=retyped(base.text, stream("exact", base.key), keep_words=keep_words),
            place=later(base.place, stream("later", "exact", base.key)),
            kind="exact_duplicate",
            detail=f"exported twice: other {how}",
            expected="dropped",
            related=base.key,
        )
        for base in bases
    ]


def overlaps(
    bases: Iterable[Draft],
    annotators: Sequence[str],
    dissent: Callable[[Draft, random.Random], str],
    stream: Stream,
) -> list[Draft]:
    """Return the same texts labelled by one or two more annotators.

    One text in twenty has a dissenter, whose label `dissent` gives. Only a text with three
    annotators has one, so that the majority is right.
    """
    drafts = []
    for index, base in enumerate(bases):
        rng = stream("overlap", base.key)
        others = rng.sample([a for a in annotators if a != base.annotator], 2)
        disputed = index % 20 == 0
        for annotator in others if disputed or rng.random() < 0.4 else others[:1]:
            differs = disputed and annotator == others[1]
            drafts.append(
                replace(
                    base,
                    key=f"{base.key}+{annotator}",
                    label=dissent(base, rng) if differs else base.label,
                    annotator=annotator,
                    place=later(base.place, stream("later", "overlap", base.key, annotator)),
                    kind="overlap",
                    detail="dissents from the two others" if differs else "same label",
                    expected="dropped",
                    related=base.key,
                )
            )
    return drafts


def conflicts(
    cases: Iterable[tuple[str, Sequence[str]]], annotators: Sequence[str], stream: Stream
) -> list[Draft]:
    """Return pairs of one text with two labels and no majority."""
    drafts = []
    for number, (text, labels) in enumerate(cases):
        rng = stream("conflict", str(number))
        keys = (f"conflict/{number}/a", f"conflict/{number}/b")
        drawn = rng.sample(annotators, 2)
        for key, other, label, annotator in zip(keys, reversed(keys), labels, drawn, strict=True):
            detail = "two annotators, two labels"
            drafts.append(
                Draft(
                    key, text, label, annotator, rng.random(), "conflict", detail, "dropped", other
                )
            )
    return drafts


def empties(
    count: int, labels: Sequence[str], annotators: Sequence[str], stream: Stream
) -> list[Draft]:
    """Return rows without any text."""
    rng = stream("empty")
    return [
        Draft(
            f"empty/{number}", text, rng.choice(labels), rng.choice(annotators), rng.random(),
            "empty", "no text", "dropped",
        )
        for number, text in enumerate(_EMPTY_TEXTS[:count])
    ]  # fmt: skip


def _paste(intro: str, lines: Sequence[str], pick: Callable[[int, int], int]) -> str:
    text = intro + "\n"
    minute = pick(0, 600)
    while len(text) <= _PASTE_CHARACTERS:
        minute += pick(1, 9)
        time = f"{minute // 60 % 24:02d}:{minute % 60:02d}"
        line = lines[pick(0, len(lines) - 1)]
        text += "\n" + line.format(time=time, number=pick(11, 899))
    return text


def pastes(
    cases: Iterable[Mapping[str, Any]],
    lines: Mapping[str, Sequence[str]],
    annotators: Sequence[str],
    stream: Stream,
) -> list[Draft]:
    """Return texts that consist of a pasted log or a whole conversation, too long to learn from."""
    drafts = []
    for number, case in enumerate(cases):
        rng = stream("paste", str(number))
        text = _paste(case["text"], lines[case["lines"]], rng.randint)
        detail = f"{len(text)} characters: pasted {case['lines']}"
        drafts.append(
            Draft(
                f"paste/{number}", text, case["label"], rng.choice(annotators), rng.random(),
                "too_long", detail, "dropped",
            )
        )  # fmt: skip
    return drafts


def golden_leaks(
    golden: Iterable[Mapping[str, str]],
    count: int,
    rewording: Rewording,
    annotators: Sequence[str],
    stream: Stream,
) -> list[Draft]:
    """Return golden examples that slipped into the labels: eight exactly, the rest nearly."""
    rng = stream("leak")
    long_enough = sorted(
        (example for example in golden if len(example["input"]) > 110),
        key=lambda example: example["example_id"],
    )
    drafts = []
    for number, example in enumerate(rng.sample(long_enough, count)):
        exact = number < _EXACT_LEAKS
        text = example["input"]
        if not exact:
            text = reworded(text, rewording, _LEAK_FLOOR, rng)
        drafts.append(
            Draft(
                f"leak/{number}", text, example["output"], rng.choice(annotators), rng.random(),
                "golden_leak", "exact copy" if exact else "nearly a copy", "dropped",
                example["example_id"],
            )
        )  # fmt: skip
    return drafts
