from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.home import Home
from serving.seal import Seal, SealError, home_secret

SEAL = Seal(b"a" * 32)


@settings(max_examples=30)
@given(st.binary(max_size=50), st.binary(max_size=200))
def test_what_was_closed_opens_under_its_own_name_only(asked: bytes, content: bytes) -> None:
    name = SEAL.name(asked)
    closed = SEAL.close(name, content)
    assert SEAL.open(name, closed) == content
    assert SEAL.open(SEAL.name(asked + b"!"), closed) is None
    assert Seal(b"b" * 32).open(name, closed) is None
    assert closed != SEAL.close(name, content)


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_what_was_not_closed_does_not_open(content: bytes) -> None:
    assert SEAL.open("a" * 64, content) is None


def test_names_cannot_be_guessed_without_the_secret() -> None:
    assert SEAL.name(b"x") == Seal(b"a" * 32).name(b"x")
    assert SEAL.name(b"x") != Seal(b"b" * 32).name(b"x")
    assert len(SEAL.name(b"x")) == 64


def test_a_homes_secret_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    first = home_secret(tmp_path)
    assert home_secret(tmp_path) == first
    assert len(first) == 32
    path = Home.at(tmp_path).cache_secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(SealError, match="chmod 600"):
        home_secret(tmp_path)
    path.chmod(0o600)
    path.write_text("short", encoding="ascii")
    with pytest.raises(SealError, match="delete it"):
        home_secret(tmp_path)
