"""Digests: the same content, the same digest; other content, another."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdm_assets.provenance.digests import (
    canonical_json,
    file_digest,
    folder_digest,
    folder_files,
    json_digest,
    merkle_root,
    prove_inclusion,
)

DIGESTS = st.lists(st.binary(max_size=8).map(lambda b: hashlib.sha256(b).hexdigest()), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON | st.lists(JSON | NUMBERS, max_size=4) | st.tuples(JSON, NUMBERS))
def test_the_canonical_form_is_that_of_rfc_8785(value: Any) -> None:
    try:
        expected = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        with pytest.raises(rfc8785.CanonicalizationError):
            canonical_json(value)
    else:
        assert canonical_json(value) == expected


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", ["\ud800"], {1: 2}, float("nan")])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        canonical_json(value)


def rfc6962(leaves: list[bytes]) -> bytes:
    """The recursive definition of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = rfc6962(leaves[:split]), rfc6962(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@given(DIGESTS)
def test_the_merkle_root_is_that_of_rfc_6962(digests: list[str]) -> None:
    leaves = [bytes.fromhex(digest) for digest in sorted(digests)]
    assert merkle_root(digests) == rfc6962(leaves).hex()


@given(DIGESTS, st.randoms())
def test_the_merkle_root_does_not_depend_on_the_order(digests: list[str], random: object) -> None:
    shuffled = list(digests)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merkle_root(shuffled) == merkle_root(digests)


@given(DIGESTS.filter(bool), st.data())
def test_every_record_has_a_proof_that_leads_to_the_root(
    digests: list[str], data: st.DataObject
) -> None:
    record = data.draw(st.sampled_from(digests))
    assert prove_inclusion(digests, record).root() == merkle_root(digests)


@given(DIGESTS)
def test_a_record_that_is_not_there_has_no_proof(digests: list[str]) -> None:
    with pytest.raises(KeyError, match="not in the dataset"):
        prove_inclusion(digests, "f" * 64)


@given(JSON)
def test_json_is_digested_by_content_not_by_layout(value: object) -> None:
    assert json_digest(json.loads(json.dumps(value, indent=3))) == json_digest(value)


def test_one_changed_row_changes_the_root() -> None:
    rows = [json_digest({"n": n}) for n in range(100)]
    changed = [*rows[:50], json_digest({"n": "fifty"}), *rows[51:]]
    assert merkle_root(rows) != merkle_root(changed)


def test_a_folder_is_digested_by_names_and_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "x.txt").write_bytes(b"x")
        (folder / "y.txt").write_bytes(b"y")
    assert folder_digest(first) == folder_digest(second)
    assert [entry["name"] for entry in folder_files(first)] == ["sub/x.txt", "y.txt"]
    (second / "y.txt").rename(second / "z.txt")
    assert folder_digest(first) != folder_digest(second)


def test_a_folder_with_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ValueError, match="symbolic link"):
        folder_digest(tmp_path)


def test_a_file_is_digested_as_sha256sum_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert file_digest(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
