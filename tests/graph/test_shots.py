"""Few-shot examples cover what there is to show, or are those most like the text."""

import hashlib
import json
from collections import Counter
from typing import Any

import pytest

from ftdm_assets.graph.shots import fixed_shots, nearest_shots, short_records
from golden.examples import Example

TEXTS = {
    "card": ["my card was stolen", "the card is lost", "where is my new card"],
    "fee": ["why was I charged a fee", "a fee on my account", "fees for a transfer abroad"],
    "login": ["I cannot log in", "my password is wrong", "the login page is blank"],
}


def record(text: str, output: str) -> dict[str, Any]:
    digest = hashlib.sha256(f"{text}{output}".encode()).hexdigest()
    return {"record_id": text, "input": text, "output": output, "digest": digest}


RECORDS = [record(text, label) for label, texts in TEXTS.items() for text in texts]


def label_alone(output: str) -> frozenset[str]:
    return frozenset({output})


def fields(output: str) -> frozenset[str]:
    return frozenset(json.loads(output))


@pytest.mark.parametrize("count", [0, 1, 3, 5, 6, 20])
def test_fixed_shots_show_every_label_equally_often(count: int) -> None:
    shots = fixed_shots(RECORDS, count, label_alone)
    assert len(shots) == min(count, len(RECORDS))
    counted = Counter(shot["output"] for shot in shots)
    times = [counted[label] for label in TEXTS]
    assert max(times) - min(times) <= 1
    assert len({shot["digest"] for shot in shots}) == len(shots)


def test_fixed_shots_of_as_few_labels_as_shots_are_the_first_by_digest() -> None:
    first: dict[str, Any] = {}
    for one in sorted(RECORDS, key=lambda row: row["digest"]):
        first.setdefault(one["output"], one)
    assert fixed_shots(RECORDS, 3, label_alone) == list(first.values())


def test_fixed_shots_of_an_extraction_show_every_field() -> None:
    common = [record(f"order {n}", json.dumps({"item": n})) for n in range(30)]
    rare = record("rush it to Rome", json.dumps({"city": "Rome", "express": True}))
    rarest = record("gift", json.dumps({"item": 1, "note": "for you"}))
    shots = fixed_shots([*common, rare, rarest], 2, fields)
    assert {one["record_id"] for one in shots} == {"rush it to Rome", "gift"}
    assert frozenset().union(*(fields(one["output"]) for one in shots)) == {
        "city", "express", "item", "note"
    }  # fmt: skip


def test_what_shows_nothing_is_no_endless_search() -> None:
    empty = [record(f"nothing {n}", "{}") for n in range(3)]
    assert len(fixed_shots(empty, 5, fields)) == 3
    assert fixed_shots([], 5, fields) == []


def test_nearest_shots_are_those_most_like_the_text_the_likest_last() -> None:
    asked = [
        Example("e1", "a stolen card", "card", ""),
        Example("e2", "the password I have is wrong", "login", ""),
    ]
    shots = nearest_shots(RECORDS, asked, 3)
    assert [shots[key][-1]["input"] for key in ("e1", "e2")] == [
        "my card was stolen", "my password is wrong"
    ]  # fmt: skip
    assert [len(found) for found in shots.values()] == [3, 3]
    assert nearest_shots(RECORDS, asked, 0) == {"e1": [], "e2": []}
    assert nearest_shots([], asked, 3) == {"e1": [], "e2": []}
    assert len(nearest_shots(RECORDS, asked, 50)["e1"]) == len(RECORDS)


def test_the_order_of_the_records_changes_nothing() -> None:
    twins = [*RECORDS, *(record(f"{text}!", "card") for text in TEXTS["card"])]
    asked = [Example(f"e{n}", text, "", "") for n, text in enumerate(TEXTS["card"])]
    turned = twins[::-1]
    assert fixed_shots(twins, 4, label_alone) == fixed_shots(turned, 4, label_alone)
    assert nearest_shots(twins, asked, 4) == nearest_shots(turned, asked, 4)


def test_many_texts_are_answered_part_by_part() -> None:
    asked = [Example(f"e{n:03}", RECORDS[n % 9]["input"], "", "") for n in range(300)]
    shots = nearest_shots(RECORDS, asked, 1)
    assert [shots[one.example_id][0]["input"] for one in asked] == [one.input for one in asked]


def test_shots_are_short_as_the_data_goes() -> None:
    short = [record(f"short {n}", "a") for n in range(2)]
    long = [record(f"{n} " + "x" * (300 + n), "a") for n in range(30)]
    # A fifteenth is short: too few to choose from.
    kept = short_records([*short, *long])
    assert len(kept) == 3
    assert max(len(one["input"]) for one in kept) < 310
    assert {one["record_id"] for one in short_records([*short, *long[:5]])} == {
        "short 0", "short 1"
    }  # fmt: skip
