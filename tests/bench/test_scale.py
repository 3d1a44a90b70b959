"""The benches' own claims, on fewer rows: exact recall, no false drop, a whole ledger."""

import pytest

from bench.contamination import overlap
from bench.label_errors import flipped_score
from bench.scale_rows import DATA, make_rows
from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.contract import contract_problems
from ftdm_assets.records.duplicates import contaminated, near_pairs, similarity
from ftdm_assets.records.normalise import duplicate_key, normalise

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the data is not beside the repository")


def test_twenty_thousand_rows_with_known_copies() -> None:
    rows = make_rows(20_000)
    frame = rows.frame()
    golden = {f"g{place}": text for place, text in enumerate(rows.golden)}
    assert contract_problems(frame) == []
    result = clean(frame, golden, CleanSettings(), judge_labels=False)
    ledger = result.ledger
    assert list(ledger["row"]) == list(frame["row"])
    dropped = set(ledger.index[ledger["outcome"] == "dropped"])
    for kind in ("exact", "near"):
        assert rows.planted[kind]
        assert all(dropped & set(pair) for pair in rows.planted[kind])
    assert {copy for copy, _ in rows.planted["golden"]} <= dropped
    # Nothing of the kind is left, and whoever was dropped for likeness is alike to someone.
    kept = list(result.records["input"])
    assert near_pairs(kept, None, 0.8) == []
    assert contaminated(kept, rows.golden, 0.8) == []
    lost = ledger[ledger["outcome"] == "dropped"]
    assert (lost["lost_to"] != "").all()
    assert lost["similarity"].notna().all()
    assert (lost.loc[lost["reason"] == "golden_near_duplicate", "similarity"] >= 0.8).all()
    alike = {place for pair in near_pairs(rows.texts, None, 0.8) for place in (pair.i, pair.j)}
    near = ledger.index[ledger["reason"] == "near_duplicate"]
    assert set(near) <= alike


def test_the_rows_are_the_same_each_time_and_the_copies_are_copies() -> None:
    rows = make_rows(2_000)
    assert rows == make_rows(2_000)
    assert len(rows.texts) == 2_000
    for copy, original in rows.planted["exact"]:
        assert duplicate_key(rows.texts[copy]) == duplicate_key(rows.texts[original])
    for copy, original in rows.planted["near"]:
        assert 0.8 <= similarity(normalise(rows.texts[copy]), normalise(rows.texts[original])) <= 1


def test_no_test_text_of_banking77_keeps_a_near_training_text() -> None:
    found = overlap()
    assert (found.near_tests, found.missed) == (56, 0)
    assert len(found.false_drops) <= 20


def test_flipped_labels_are_found_in_a_part_of_banking77() -> None:
    score = flipped_score(0.05, classes=20, rows=800)
    assert score.recall >= 0.6
    assert score.precision >= 0.7
