"""Label errors: planted ones are found, clean and hopeless sets are left alone."""

import csv
import random
from pathlib import Path

import pytest

from ftdm_assets.records import label_errors
from ftdm_assets.records.label_errors import Suspect, suspected_label_errors

BANKING = Path(__file__).resolve().parents[3] / "shared/data/banking77/train.csv"
TOPICS = {
    "billing": ["invoice", "refund", "charge", "card", "price", "payment"],
    "device": ["battery", "sensor", "offline", "firmware", "pairing", "hub"],
    "parcel": ["courier", "tracking", "delivery", "shipped", "address", "box"],
}


def topical(count: int = 150) -> tuple[list[str], list[str], list[str]]:
    draw = random.Random(7)
    labels = [sorted(TOPICS)[n % 3] for n in range(count)]
    texts = [f"{' '.join(draw.sample(TOPICS[label], 4))} {n}" for n, label in enumerate(labels)]
    return [f"r{n:03d}" for n in range(count)], texts, labels


def test_a_clean_set_has_no_suspects() -> None:
    assert suspected_label_errors(*topical()) == []


def test_planted_errors_are_found_with_the_right_suggestion() -> None:
    ids, texts, labels = topical()
    right = list(labels)
    for place in (3, 40, 77):
        labels[place] = "parcel" if right[place] != "parcel" else "device"
    suspects = suspected_label_errors(ids, texts, labels)
    assert {s.record_id for s in suspects} == {"r003", "r040", "r077"}
    for suspect in suspects:
        assert suspect.suggested == right[int(suspect.record_id[1:])]
        assert suspect.given == labels[int(suspect.record_id[1:])]
        assert 0.5 <= suspect.confidence <= 1
    assert suspects == sorted(suspects, key=lambda s: (-s.confidence, s.record_id))


def test_the_order_of_the_rows_does_not_matter() -> None:
    ids, texts, labels = topical(90)
    labels[10] = "parcel" if labels[10] != "parcel" else "device"
    rows = list(zip(ids, texts, labels, strict=True))
    backward = [list(column) for column in zip(*rows[::-1], strict=True)]
    found = suspected_label_errors(ids, texts, labels, 0.05)
    assert found == suspected_label_errors(backward[0], backward[1], backward[2], 0.05)
    assert found[0] == Suspect("r010", labels[10], found[0].suggested, found[0].confidence)


def test_a_large_set_is_judged_whole_by_models_that_know_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids, texts, labels = topical(300)
    right = list(labels)
    for place in (3, 40, 77, 210, 290):
        labels[place] = "parcel" if right[place] != "parcel" else "device"
    whole = suspected_label_errors(ids, texts, labels)
    monkeypatch.setattr(label_errors, "MOST_KNOWN", 90)
    part = suspected_label_errors(ids, texts, labels)
    assert {s.record_id for s in part} == {s.record_id for s in whole}
    assert len(part) == 5


def test_labels_that_the_texts_do_not_tell_apart_are_left_alone() -> None:
    draw = random.Random(1)
    words = [f"w{n}" for n in range(300)]
    texts = [" ".join(draw.sample(words, 8)) for _ in range(200)]
    labels = [f"l{n % 20}" for n in range(200)]
    assert suspected_label_errors([f"r{n}" for n in range(200)], texts, labels) == []


@pytest.mark.parametrize("labels", [[], ["a"] * 20, ["a"] * 10 + ["b"] * 4])
def test_too_little_to_judge_by(labels: list[str]) -> None:
    ids = [f"r{n}" for n in range(len(labels))]
    assert suspected_label_errors(ids, [f"text {n}" for n in range(len(ids))], labels) == []


def test_rare_classes_are_not_judged() -> None:
    ids, texts, labels = topical(60)
    suspects = suspected_label_errors([*ids, "rare"], [*texts, texts[0]], [*labels, "oddity"], 0.0)
    assert "rare" not in {s.record_id for s in suspects}


@pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not beside the repository")
def test_flipped_labels_of_banking77_are_found_with_precision() -> None:
    draw = random.Random(0)
    with BANKING.open(encoding="utf-8", newline="") as stream:
        every = list(csv.DictReader(stream))
    names = sorted({row["category"] for row in every})[:20]
    rows = draw.sample([row for row in every if row["category"] in names], 800)
    labels = [row["category"] for row in rows]
    flipped = draw.sample(range(len(rows)), 40)
    for place in flipped:
        labels[place] = draw.choice([name for name in names if name != labels[place]])
    ids = [str(n) for n in range(len(rows))]
    suspects = suspected_label_errors(ids, [row["text"] for row in rows], labels)
    hits = {int(s.record_id) for s in suspects} & set(flipped)
    assert len(hits) / len(suspects) >= 0.7
    assert len(hits) / len(flipped) >= 0.6
