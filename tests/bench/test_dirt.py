"""The planted dirt of the shipped model is found, kind by kind, at a stated cost."""

import pytest

from bench.dirt import clean_lost, cleaned, found_by_kind

WHOLE = (
    "conflict", "empty", "exact_duplicate", "golden_leak", "near_duplicate", "overlap",
    "personal_data", "too_long",
)  # fmt: skip


@pytest.mark.timeout(600)
def test_planted_dirt_is_found_and_little_else_is_lost() -> None:
    result, raw, key = cleaned()
    found = found_by_kind(result, key)
    assert set(found) == {*WHOLE, "wrong_label"}
    for kind in WHOLE:
        hits, planted = found[kind]
        assert (kind, hits) == (kind, planted)
    hits, planted = found["wrong_label"]
    assert hits / planted >= 0.75
    lost, rows = clean_lost(result, raw, key)
    assert lost / rows <= 0.02
