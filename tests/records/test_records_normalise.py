"""Normalising: what it removes, what it must keep, and that twice is once."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.records.normalise import duplicate_key, normalise, normalise_output


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  two   words\t here ", "two words here"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\n \n\n\nb", "a\n\nb"),
        ("a\x00b\x1bc", "abc"),
        ("u\u0308ber", "über"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("no\u00a0break", "no break"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("👩\u200d🔧 stays", "👩\u200d🔧 stays"),
        (" \u200b \n", ""),
    ],
)
def test_cases(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


def test_an_output_keeps_its_inner_white_space() -> None:
    assert normalise_output(' {\r\n  "a":  1\x00}\n') == '{\n  "a":  1}'


@given(st.text())
def test_twice_is_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert normalise_output(normalise_output(text)) == normalise_output(text)
    assert unicodedata.is_normalized("NFC", once)
    assert "  " not in once
    assert once == once.strip()


@given(st.text())
def test_the_key_sees_no_case_and_no_white_space(text: str) -> None:
    key = duplicate_key(text)
    assert duplicate_key(f" {text}\n") == key
    assert duplicate_key(key) == key
    assert bool(key) == bool(text.strip()) or not text.isprintable()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Where is it?", "where  IS it!!", True),
        ("haven't", "havent", True),
        ("STRASSE", "straße", True),
        ("?", "!", False),
        ("$5", "€5", False),
        ("great 👍", "great 👎", False),
        ("ab c", "a bc", False),
    ],
)
def test_when_two_texts_are_the_same(one: str, other: str, same: bool) -> None:
    assert (duplicate_key(one) == duplicate_key(other)) is same
