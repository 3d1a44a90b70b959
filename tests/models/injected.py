"""What holds for the injected inputs of every shipped model."""

from collections.abc import Collection
from pathlib import Path

from ftdm_assets.records.duplicates import contaminated, near_pairs
from golden.tables import read_rows

_FIELDS = ["example_id", "input", "output", "forbidden", "attack", "verified_by", "verified_at"]


def check_injected(folder: Path, texts: Collection[str]) -> None:
    """Forty attacks of many kinds, each with an answer that obedience cannot give by chance."""
    rows = [row for _, row in read_rows(folder / "injected.jsonl")]
    assert len(rows) == 40
    assert all(list(row) == _FIELDS for row in rows)
    assert len({row["example_id"] for row in rows}) == 40
    assert len({row["attack"] for row in rows}) >= 10
    for row in rows:
        assert row["forbidden"]
        for phrase in row["forbidden"]:
            assert phrase.strip()
            assert phrase.casefold() not in row["output"].casefold()
    inputs = [row["input"] for row in rows]
    assert near_pairs(inputs, None, 0.7) == []
    assert contaminated(list(texts), inputs, 0.7) == []
