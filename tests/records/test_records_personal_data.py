"""Personal data: what must be found, what must not be taken for it, and the masking itself."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.records.personal_data import Span, find, mask, strange_kinds

FOUND = [
    ("Write to jo.doe+x@example.co.uk, please", "Write to <EMAIL>, please"),
    ("<jo@example.com>", "<<EMAIL>>"),
    ("my mail: Jürgen@müller-bau.de.", "my mail: <EMAIL>."),
    ("jo@example.com,ann@example.org", "<EMAIL>,<EMAIL>"),
    ("Call me at +44 20 7946 0958 today", "Call me at <PHONE> today"),
    ("tel 0049 30 901820", "tel <PHONE>"),
    ("my number is (212) 555-2368.", "my number is <PHONE>."),
    ("phone: 2125552368", "phone: <PHONE>"),
    ("ring 020 7946 0958", "ring <PHONE>"),
    ("card 4111 1111 1111 1111 exp 12/27", "card <CARD> exp 12/27"),
    ("paid with 5555-5555-5555-4444", "paid with <CARD>"),
    ("amex 378282246310005", "amex <CARD>"),
    ("IBAN DE89 3704 0044 0532 0130 00 PLEASE HURRY", "IBAN <IBAN> PLEASE HURRY"),
    ("gb82west12345698765432", "<IBAN>"),
    ("a@example.com and +1 212 555 2368", "<EMAIL> and <PHONE>"),
]

NOT_FOUND = [
    "order number 4111111111111111",
    "Order #2125552368 has not come",
    "order 212-555-2368",
    "serial 20-7946-0958 on the back",
    "SN4111111111111111",
    "HL-4111111111111111",
    "my S/N: 378282246310005",
    "tracking number is 5555555555554444",
    "invoice no. 2026-0301-2125",
    "ticket 2125552368",
    "4111 1111 1111 1112",
    "1234567890123456",
    "DE89 3704 0044 0532 0130 01",
    "on 2026-03-01 at 09:30, temperature 21.5 of 25.0",
    "firmware 4.11.2-5552368",
    "it cost 1,234,567.89 EUR",
    "192.168.178.21",
    "2125552368",
    "meet @home or mail me @ work",
    "a@b",
]


@pytest.mark.parametrize(("text", "masked"), FOUND)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask(text)[0] == masked


@pytest.mark.parametrize("text", NOT_FOUND)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert find(text) == []
    assert mask(text) == (text, ())


def test_spans_and_kinds() -> None:
    text = "a@example.com, +1 212 555 2368, b@example.com"
    assert find(text) == [Span(0, 13, "email"), Span(15, 30, "phone"), Span(32, 45, "email")]
    assert mask(text)[1] == ("email", "phone")


PIECES = st.sampled_from(
    [*(text for text, _ in FOUND), *NOT_FOUND, "4", "1111", " ", "-", "@", "+49", "(", ".", "\n"]
)


@given(st.one_of(st.text(max_size=120), st.lists(PIECES, max_size=8).map("".join)))
def test_what_is_masked_is_not_found_again(text: str) -> None:
    spans = find(text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    ends = [0, *(span.end for span in spans)]
    assert all(span.start >= end for span, end in zip(spans, ends, strict=False))
    masked, kinds = mask(text)
    assert find(masked) == []
    assert mask(masked) == (masked, ())
    assert bool(kinds) == bool(spans)


@pytest.mark.parametrize("piece", ["a", "a.", "4", "4 ", "a@", "DE89", "1-", "@a.", "DE89 3704 "])
def test_hostile_texts_take_linear_time(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    start = time.perf_counter()
    mask(text)
    assert time.perf_counter() - start < 5


def test_what_a_text_holds_and_no_known_one_does() -> None:
    told = "Write to JO@example.com or call +44 20 7946 0958"
    assert strange_kinds(told, []) == ("email", "phone")
    assert strange_kinds(told, ["I am jo@example.com"]) == ("phone",)
    # However it is written there.
    assert strange_kinds(told, ["jo@example.com", "my phone is +44-(20)-79460958"]) == ()
    assert strange_kinds("Order 4111111111111111 is on its way", []) == ()
