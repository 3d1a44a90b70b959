"""Rows for the bench of scale: real texts recombined, with planted copies of known originals.

A row is the first half of one text of BANKING77, Snips or the VADER reviews and the second half of
another, so that a million of them differ as real ones do. Planted into them are exact copies
(case, punctuation), near copies (a typo, a word more, a word less) and copies of golden examples.
Everything is drawn with one seed; texts are read from ``../shared/data`` and stored nowhere.
"""

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.snips_rows import utterances
from ftdm_assets.records.duplicates import similarity
from ftdm_assets.records.normalise import duplicate_key

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GOLDEN = 320
SHARES = {"exact": 0.05, "near": 0.05, "golden": 0.005}
NEAR = 0.8


@dataclass(frozen=True)
class Rows:
    """The texts with their labels, the golden texts, and what was planted.

    Attributes:
        planted: by kind, the places of copy and original; originals of ``golden`` count there.
    """

    texts: list[str]
    labels: list[str]
    golden: list[str]
    planted: dict[str, list[tuple[int, int]]]

    def frame(self) -> pd.DataFrame:
        """Return the raw frame of the rows."""
        names = [f"r{place:07d}" for place in range(len(self.texts))]
        columns = {"record_id": names, "input": self.texts, "output": self.labels}
        fixed = {"annotator": "bench", "annotated_at": "2026-03-01T09:00:00+00:00"}
        frame = pd.DataFrame({**columns, **fixed, "source": "bench", "data_class": "internal"})
        return frame.assign(actor="bench", role="label", row=range(1, len(frame) + 1))


def real_texts() -> list[tuple[str, str]]:
    """Return (text, label) of all sources, each text once."""
    found = []
    for name in ("train", "test"):
        with (DATA / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            found += [(row["text"], row["category"]) for row in csv.DictReader(stream)]
    found += [(one.text, one.intent) for one in utterances("train_*_full.json")]
    reviews = DATA / "vader_20raters" / "amazonReviewSnippets_GroundTruth.txt"
    lines = reviews.read_text(encoding="utf-8").splitlines()
    found += [(line.split("\t")[2], "review") for line in lines]
    tidy = {" ".join(text.split()): label for text, label in found}
    return sorted((text, label) for text, label in tidy.items() if len(text.split()) > 3)


def make_rows(count: int, seed: int = 0) -> Rows:
    """Return ``count`` rows."""
    draw = random.Random(seed)
    sources = real_texts()
    draw.shuffle(sources)
    golden, sources = [text for text, _ in sources[:GOLDEN]], sources[GOLDEN:]
    copies = {kind: int(count * share) for kind, share in SHARES.items()}
    base = count - sum(copies.values())
    rows = [_recombined(draw, sources) for _ in range(base)]
    planted: dict[str, list[tuple[int, int]]] = {}
    for kind, number in copies.items():
        originals = rows[:base] if kind != "golden" else [(text, "") for text in golden]
        planted[kind] = []
        for _ in range(number):
            place = draw.randrange(len(originals))
            text, label = originals[place]
            planted[kind].append((len(rows), place))
            rows.append(((_same if kind == "exact" else _near)(draw, text), label or sources[0][1]))
    order = list(range(count))
    draw.shuffle(order)
    now = {place: spot for spot, place in enumerate(order)}
    pairs = {
        kind: [(now[copy], at if kind == "golden" else now[at]) for copy, at in found]
        for kind, found in planted.items()
    }
    texts, labels = zip(*(rows[place] for place in order), strict=True)
    return Rows(list(texts), list(labels), golden, pairs)


def _recombined(draw: random.Random, sources: list[tuple[str, str]]) -> tuple[str, str]:
    (first, label), (second, _) = draw.choice(sources), draw.choice(sources)
    head, tail = first.split(), second.split()
    return " ".join(head[: len(head) // 2] + tail[len(tail) // 2 :]), label


def _same(draw: random.Random, text: str) -> str:
    changed: list[Callable[[str], str]] = [
        str.upper,
        str.lower,
        lambda t: t + "!",
        lambda t: f" {t}",
    ]
    return draw.choice(changed)(text)


def _near(draw: random.Random, text: str) -> str:
    """Return a text that differs and is near; after many tries, one with a word more."""
    for _ in range(50):
        words = text.split()
        place = draw.randrange(len(words))
        kind = draw.randrange(3)
        if kind == 0:
            words.insert(place, draw.choice(("please", "now", "again", "really")))
        elif kind == 1 and len(words) > 2:
            del words[place]
        else:
            at = draw.randrange(len(words[place]))
            words[place] = words[place][:at] + draw.choice("aeinrst") + words[place][at + 1 :]
        changed = " ".join(words)
        if duplicate_key(changed) != duplicate_key(text) and similarity(changed, text) >= NEAR:
            return changed
    return text + "s"
