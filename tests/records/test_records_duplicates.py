"""Near duplicates: exact recall against brute force, published figures, speed."""

import csv
import random
import time
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdm_assets.records import duplicates, similarity_join
from ftdm_assets.records.duplicates import (
    Pair,
    character_grams,
    contaminated,
    groups,
    near_groups,
    near_pairs,
    nearest,
    same_key_groups,
    similarity,
    word_grams,
)

BANKING = Path(__file__).resolve().parents[3] / "shared/data/banking77"
WORDS = st.lists(st.sampled_from(["the", "card", "is", "lost", "Lost!", "?", "é"]), max_size=9)
TEXTS = st.lists(st.one_of(WORDS.map(" ".join), st.text(max_size=8)), max_size=12)
THRESHOLDS = st.sampled_from([0.01, 0.3, 0.5, 0.8, 1.0])


def test_grams() -> None:
    assert character_grams("Ab, c!") == {"ab ", "b c"}
    assert character_grams("a") == {"a"}
    assert character_grams("?!") == {"?!"}
    assert character_grams("") == {""}
    assert word_grams("Is my card lost?") == {"is my card", "my card lost"}
    assert word_grams("Lost card") == {"lost card"}


def test_one_changed_word_in_ten_is_near() -> None:
    one = "my smart thermostat has been showing a wrong temperature since monday"
    other = one.replace("monday", "tuesday")
    assert similarity(one, other) >= 0.8
    assert near_pairs([one, other], None, 0.8) == [Pair(0, 1, similarity(one, other))]
    assert similarity(one, other, word_grams) == 0.8


@pytest.fixture(params=["compare all", "by parts"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by parts":
        monkeypatch.setattr(similarity_join, "_PRODUCT_CELLS", 0)
        monkeypatch.setattr(similarity_join, "_LOW_PRODUCT_CELLS", 0)
    return str(request.param)


@pytest.mark.usefixtures("way")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(TEXTS, TEXTS, THRESHOLDS, st.sampled_from([character_grams, word_grams]))
def test_every_pair_is_found_and_no_other(
    texts_a: list[str], texts_b: list[str], threshold: float, shingles: duplicates.Shingles
) -> None:
    across = [
        Pair(i, j, score)
        for i, a in enumerate(texts_a)
        for j, b in enumerate(texts_b)
        if (score := similarity(a, b, shingles)) >= threshold
    ]
    assert near_pairs(texts_a, texts_b, threshold, shingles) == across
    within = [
        Pair(i, j, score)
        for i, j in combinations(range(len(texts_a)), 2)
        if (score := similarity(texts_a[i], texts_a[j], shingles)) >= threshold
    ]
    assert near_pairs(texts_a, None, threshold, shingles) == within


@pytest.mark.usefixtures("way")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(st.integers(0, 10_000), st.sampled_from([0.6, 0.8, 0.9, 1.0]))
def test_edited_sentences_are_found_by_every_face_of_the_join(seed: int, threshold: float) -> None:
    draw = random.Random(seed)
    vocabulary = [
        f"{a}{b}" for a in ("ca", "lo", "pay", "trans") for b in ("rd", "st", "fer", "me")
    ]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randrange(1, 14))) for _ in range(8)]
    for _ in range(16):
        letters = list(draw.choice(texts))
        for _ in range(draw.randrange(3)):
            letters[draw.randrange(len(letters))] = draw.choice("aeiou ")
        texts.append("".join(letters))
    within = [
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if similarity(texts[i], texts[j]) >= threshold
    ]
    assert [(p.i, p.j) for p in near_pairs(texts, None, threshold)] == within
    assert near_groups(texts, threshold) == groups(len(texts), within)
    golden = texts[:4]
    best = {}
    for i, text in enumerate(texts):
        score, place = max((similarity(text, g), -n) for n, g in enumerate(golden))
        if score >= threshold:
            best[i] = Pair(i, -place, score)
    assert nearest(texts, golden, threshold) == list(best.values())


def test_held_links_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {n % 7} and {n % 5}" for n in range(40)]
    whole = near_groups(texts, 0.7)
    monkeypatch.setattr(duplicates, "_HELD_LINKS", 1)
    monkeypatch.setattr(similarity_join, "_PRODUCT_CELLS", 0)
    monkeypatch.setattr(similarity_join, "_WAITING", 1)
    monkeypatch.setattr(similarity_join, "_CHUNK", 3)
    monkeypatch.setattr(similarity_join, "_VERIFY", 2)
    assert near_groups(texts, 0.7) == whole
    assert whole


def test_contamination_is_nearness_by_characters_or_by_words() -> None:
    golden = ["please tell me how i can change the limit of my electromagnetism"]
    by_words = golden[0].replace("electromagnetism", "superconductivity account")
    by_characters = golden[0].replace("tell", "tel").replace("limit", "limits")
    other = "where is the next branch"
    assert similarity(by_words, golden[0]) < 0.65 <= similarity(by_words, golden[0], word_grams)
    assert similarity(by_characters, golden[0], word_grams) < 0.65
    found = contaminated([by_words, by_characters, other, golden[0]], golden, 0.65)
    assert [pair.i for pair in found] == [0, 1, 3]
    assert found[0].similarity == similarity(by_words, golden[0], word_grams)
    assert found[2].similarity == 1


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {n % 7} and {n % 5}" for n in range(40)]
    whole = near_pairs(texts, None, 0.7)
    monkeypatch.setattr(similarity_join, "_BLOCK_CELLS", 1)
    assert near_pairs(texts, None, 0.7) == whole
    assert whole


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="not above 0 and at most 1"):
        near_pairs(["a"], None, threshold)


def test_groups_are_connected_and_sorted() -> None:
    assert groups(7, [(5, 1), (2, 4), (4, 6)]) == [[1, 5], [2, 4, 6]]
    assert groups(3, []) == []
    assert same_key_groups(["x", "y", "x", "z", "y"]) == [[0, 2], [1, 4]]


def banking(name: str) -> list[str]:
    with (BANKING / name).open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)]


@pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not beside the repository")
def test_published_overlap_of_banking77() -> None:
    pairs = near_pairs(banking("test.csv"), banking("train.csv"), 0.5, word_grams)
    found = {
        threshold: len({pair.i for pair in pairs if pair.similarity >= threshold})
        for threshold in (0.9, 0.8, 0.7, 0.5)
    }
    assert found == {0.9: 14, 0.8: 56, 0.7: 137, 0.5: 617}


@pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not beside the repository")
def test_ten_thousand_against_three_thousand_in_seconds() -> None:
    test, train = banking("test.csv"), banking("train.csv")
    start = time.perf_counter()
    pairs = near_pairs(test, train, 0.8)
    assert time.perf_counter() - start < 20
    assert len({pair.i for pair in pairs}) == 303
