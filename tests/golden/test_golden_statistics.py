"""Statistics against published values, brute force and exact arithmetic."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.statistics import exact, mcnemar, points_below, wilson_interval

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def outcomes(both: int, lost: int, gained: int, neither: int) -> tuple[dict[str, bool], ...]:
    pairs = [(True, True)] * both + [(True, False)] * lost + [(False, True)] * gained
    pairs += [(False, False)] * neither
    before = {f"e{n}": pair[0] for n, pair in enumerate(pairs)}
    after = {f"e{n}": pair[1] for n, pair in enumerate(pairs)}
    return before, after


def test_wilson_at_a_known_value() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    interval = wilson_interval(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)
    assert round(wilson_interval(0, 20).high, 4) == 0.1611


@given(counts)
def test_wilson_holds_the_share_and_stays_within_bounds(count: tuple[int, int]) -> None:
    correct, total = count
    interval = wilson_interval(correct, total)
    assert 0 <= interval.low <= correct / total <= interval.high <= 1


@pytest.mark.parametrize("bad", [(0, 0), (5, 4), (-1, 4)])
def test_impossible_counts_are_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(*bad)
    with pytest.raises(ValueError, match="impossible"):
        points_below(1, 1, *bad)


def test_a_confidence_of_more_than_one_is_refused() -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        wilson_interval(1, 2, 95)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_exact_binomial(lost: int, gained: int) -> None:
    result = mcnemar(*outcomes(5, lost, gained, 5))
    changed = lost + gained
    assert (result.lost, result.gained, result.total) == (lost, gained, changed + 10)
    tail = sum(comb(changed, k) for k in range(gained, changed + 1)) / 2**changed
    assert result.p_better == pytest.approx(tail)
    smaller = sum(comb(changed, k) for k in range(min(lost, gained) + 1)) / 2**changed
    assert result.p_value == pytest.approx(min(1.0, 2 * smaller))


def test_mcnemar_sees_what_an_unpaired_test_misses() -> None:
    # 198 and 206 of 220: unpaired p = 0.17; only 8 examples changed, all of them for the better.
    assert mcnemar(*outcomes(198, 0, 8, 14)).p_value < 0.01


def test_two_models_on_different_examples_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="1 examples were scored for one model only"):
        mcnemar({"a": True}, {"a": True, "b": False})


def test_a_drop_of_five_points_is_five_points() -> None:
    # In floating point 0.9 - 0.85 is 0.05000000000000004 and 0.7 - 0.65 is 0.04999999999999993.
    assert points_below(280, 400, 260, 400) == 5
    assert points_below(280, 400, 261, 400) < 5
    assert points_below(180, 200, 34, 40) == exact(5)
    assert points_below(1, 2, 3, 4) == -25


@given(counts, counts)
def test_points_are_exact_and_antisymmetric(before: tuple[int, int], now: tuple[int, int]) -> None:
    drop = points_below(*before, *now)
    assert drop == -points_below(*now, *before)
    assert drop == 100 * (Fraction(*before) - Fraction(*now))


def test_a_setting_means_what_was_written() -> None:
    assert exact(0.9) == Fraction(9, 10)
    assert exact("2.5") == Fraction(5, 2)
    assert exact(5) == 5
