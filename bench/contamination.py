"""BANKING77: which test texts the training texts come near to, and what their removal costs.

Run as ``python -m bench.contamination [--list]``. A false drop is a training text that is dropped
for a test text of another label: near by its letters, another matter by its label.
"""

import csv
import sys
from dataclasses import dataclass

import pandas as pd

from bench.scale_rows import DATA
from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.duplicates import near_pairs, word_grams

THRESHOLD = 0.8


@dataclass(frozen=True)
class Overlap:
    """What the cleaning did to the training texts, with the test texts as golden set.

    Attributes:
        near_tests: test texts with a training text at the threshold by grams of words.
        missed: those of them that a kept training text is still near to, by the same measure.
        dropped: training texts that were dropped for a golden example.
        false_drops: (training text, its label, test text, its label, similarity) of other labels.
    """

    near_tests: int
    missed: int
    dropped: int
    false_drops: tuple[tuple[str, str, str, str, float], ...]


def _read(name: str) -> list[tuple[str, str]]:
    with (DATA / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def overlap() -> Overlap:
    """Clean train against test, label errors left out."""
    train, test = _read("train"), _read("test")
    frame = pd.DataFrame(train, columns=["input", "output"])
    frame["record_id"] = [f"r{place:05d}" for place in range(len(train))]
    frame = frame.assign(annotator="b", annotated_at="", source="b", data_class="public")
    frame = frame.assign(actor="b", role="label")
    frame["row"] = range(1, len(train) + 1)
    golden = {f"g{place:05d}": text for place, (text, _) in enumerate(test)}
    result = clean(frame, golden, CleanSettings(golden_threshold=THRESHOLD), judge_labels=False)
    tests = list(golden.values())
    before = near_pairs(tests, [text for text, _ in train], THRESHOLD, word_grams)
    after = near_pairs(tests, list(result.records["input"]), THRESHOLD, word_grams)
    lost = result.ledger[result.ledger["reason"].str.startswith("golden")]
    false = []
    for row, to, similarity in zip(lost["row"], lost["lost_to"], lost["similarity"], strict=True):
        (text, label), (other, expected) = train[row - 1], test[int(to[1:])]
        if label != expected:
            false.append((text, label, other, expected, float(similarity)))
    return Overlap(len({p.i for p in before}), len({p.i for p in after}), len(lost), tuple(false))


def main() -> None:
    """Print the figures of the README; with ``--list`` every false drop."""
    found = overlap()
    sys.stdout.write(
        f"{found.near_tests} test texts have a training text at word 3-gram Jaccard >= {THRESHOLD};"
        f" after cleaning {found.missed} have; {found.dropped} training texts were dropped, "
        f"{len(found.false_drops)} of them carry another label than the test text\n"
    )
    if "--list" in sys.argv[1:]:
        for text, label, other, expected, similarity in found.false_drops:
            sys.stdout.write(f"{similarity:.2f}  {label}: {text}  |  {expected}: {other}\n")


if __name__ == "__main__":
    main()
