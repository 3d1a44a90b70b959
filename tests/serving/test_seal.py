from hypothesis import given, settings
from hypothesis import strategies as st

from serving.seal import Seal

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
