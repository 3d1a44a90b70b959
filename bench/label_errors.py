"""Flipped labels of BANKING77 (train): how many the label-error step finds, and how often it errs.

Run as ``python -m bench.label_errors [SHARE ...]`` (0.05 and 0.1 by default). A share of the labels
is replaced by another one each, drawn with a fixed seed; what reaches the confidence from which the
cleaning drops by default is compared with what was flipped.
"""

import csv
import random
import sys
import time
from dataclasses import dataclass

from bench.scale_rows import DATA
from ftdm_assets.records.clean import CleanSettings
from ftdm_assets.records.label_errors import suspected_label_errors


@dataclass(frozen=True)
class Score:
    """How many labels were flipped, how many were suspected, and how many were both."""

    flipped: int
    suspected: int
    hits: int

    @property
    def precision(self) -> float:
        """Return the share of the suspects that were flipped."""
        return self.hits / max(self.suspected, 1)

    @property
    def recall(self) -> float:
        """Return the share of the flipped labels that are suspected."""
        return self.hits / max(self.flipped, 1)


def flipped_score(share: float, classes: int | None = None, rows: int | None = None) -> Score:
    """Flip a share of the labels and look for them, in all of BANKING77 or a part of it."""
    draw = random.Random(0)
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as stream:
        table = [(row["text"], row["category"]) for row in csv.DictReader(stream)]
    names = sorted({label for _, label in table})[:classes]
    table = [row for row in table if row[1] in names]
    if rows is not None:
        table = draw.sample(table, rows)
    labels = [label for _, label in table]
    flipped = set(draw.sample(range(len(table)), round(share * len(table))))
    for place in sorted(flipped):
        labels[place] = draw.choice([name for name in names if name != labels[place]])
    ids = [str(place) for place in range(len(table))]
    at_least = CleanSettings().label_error_confidence
    suspects = suspected_label_errors(ids, [text for text, _ in table], labels, at_least)
    found = {int(suspect.record_id) for suspect in suspects}
    return Score(len(flipped), len(found), len(found & flipped))


def main() -> None:
    """Print the figures of the README."""
    for share in [float(text) for text in sys.argv[1:]] or [0.05, 0.1]:
        started = time.perf_counter()
        score = flipped_score(share)
        sys.stdout.write(
            f"{share:4.0%} flipped: {score.hits} of {score.flipped} found (recall "
            f"{score.recall:.3f}), {score.suspected} suspected (precision {score.precision:.3f}), "
            f"{time.perf_counter() - started:.0f} s\n"
        )


if __name__ == "__main__":
    main()
