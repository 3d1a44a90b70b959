import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import names
from tests.serving.serving_support import digest_of

MODELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
NUMBERS = st.integers(min_value=0, max_value=10**9 - 1)


@given(MODELS, NUMBERS)
def test_both_forms_of_a_version_mean_the_same(model: str, number: int) -> None:
    short = f"v{number:04d}"
    full = names.full_version(model, short)
    assert full == f"{model}-{short}"
    assert names.full_version(model, full) == full
    assert names.short_version(model, full) == names.short_version(model, short) == short


@given(MODELS, NUMBERS)
def test_what_a_caller_may_ask_for(model: str, number: int) -> None:
    assert names.parse_asked(model) == names.Asked(model, None)
    assert names.parse_asked(f"{model}@previous") == names.Asked(model, "previous")
    exact = names.parse_asked(f"{model}@v{number:04d}")
    assert exact == names.Asked(model, f"{model}-v{number:04d}")


@given(st.text(max_size=80))
def test_any_other_text_is_refused_or_read_whole(text: str) -> None:
    try:
        asked = names.parse_asked(text)
    except names.InvalidNameError:
        return
    assert text == asked.model or text.startswith(f"{asked.model}@")
    assert names.check_model(asked.model)


@pytest.mark.parametrize(
    "text",
    ["", "@", "m@", "m@v1", "m@latest", "m@v0001@v0002", "a/b", "../m", "m\n", "m@other-v0001"],
)
def test_bad_names(text: str) -> None:
    with pytest.raises(names.InvalidNameError):
        names.parse_asked(text)


def test_an_engine_serves_a_name_per_digest() -> None:
    served = names.served_name("m", "m-v0003", digest_of("x"))
    assert served == f"m@v0003-{digest_of('x')[:12]}"
    with pytest.raises(names.InvalidNameError, match="digest"):
        names.served_name("m", "v0003", "ABC")
