"""Power by counting every outcome, by simulation, and by its own invariants."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from golden.power import (
    PowerSettings,
    detectable_difference,
    lost_class_size,
    margin_power,
    margin_size,
    paired_power,
    paired_size,
    share_power,
    share_size,
)

USUAL = PowerSettings()
small = st.integers(1, 14)
differences = st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0])
shares = st.sampled_from([0.05, 0.1, 0.3, 0.6])


def _chance(total: int, gained: int, lost: int, difference: float, changed: float) -> float:
    share = max(changed, difference)
    up, down = (share + difference) / 2, (share - difference) / 2
    ways = comb(total, gained) * comb(total - gained, lost)
    return float(ways * up**gained * down**lost * (1 - share) ** (total - gained - lost))


@given(small, differences, shares)
@settings(deadline=None, max_examples=40)
def test_paired_power_counts_every_outcome(total: int, difference: float, changed: float) -> None:
    found = sum(
        _chance(total, gained, lost, difference, changed)
        for gained in range(total + 1)
        for lost in range(total + 1 - gained)
        if gained > lost and stats.binomtest(gained, gained + lost).pvalue <= 0.05
    )
    power = paired_power(total, difference, PowerSettings(changed=changed))
    assert power == pytest.approx(found, abs=1e-12)


@given(small, differences, shares, st.sampled_from([0.01, 0.05, 0.1, 0.25]))
def test_margin_power_counts_every_outcome(
    total: int, drop: float, changed: float, margin: float
) -> None:
    refused = sum(
        _chance(total, lost, gained, drop, changed)
        for gained in range(total + 1)
        for lost in range(total + 1 - gained)
        if 100 * (lost - gained) > round(100 * margin) * total
    )
    power = margin_power(total, drop, margin, PowerSettings(changed=changed))
    assert power == pytest.approx(refused, abs=1e-12)


def test_power_by_simulation() -> None:
    generator = np.random.default_rng(1)
    drawn = generator.multinomial(320, [0.075, 0.025, 0.9], size=20_000)
    gained, changed = drawn[:, 0], drawn[:, 0] + drawn[:, 1]
    p_values = np.minimum(1, 2 * stats.binom.sf(gained - 1, changed, 0.5))
    assert paired_power(320, 0.05, USUAL) == pytest.approx((p_values <= 0.05).mean(), abs=0.01)
    drop = (drawn[:, 0] - drawn[:, 1]) > 3.2
    assert margin_power(320, 0.05, 0.01, USUAL) == pytest.approx(drop.mean(), abs=0.005)


@given(st.integers(5, 400), st.lists(st.floats(0.001, 1), min_size=2, max_size=2), shares)
@settings(deadline=None)
def test_a_greater_difference_is_found_at_least_as_often(
    total: int, pair: list[float], changed: float
) -> None:
    one, other = sorted(pair)
    chosen = PowerSettings(changed=changed)
    assert paired_power(total, one, chosen) <= paired_power(total, other, chosen) + 1e-9


def test_the_detectable_difference_is_the_first_that_is_found() -> None:
    for total in (20, 320, 2000):
        found = detectable_difference(total, USUAL)
        assert found is not None
        assert paired_power(total, found, USUAL) >= 0.8 > paired_power(total, found - 0.001, USUAL)
    assert detectable_difference(320, USUAL) == 0.052
    assert detectable_difference(4, USUAL) is None


def test_sizes_are_enough_and_one_less_is_not() -> None:
    assert paired_power(paired_size(0.05, USUAL), 0.05, USUAL) >= 0.8
    assert paired_power(paired_size(0.05, USUAL) - 1, 0.05, USUAL) < 0.8
    size = share_size(0.85, 0.05, 0.8)
    assert share_power(size, 0.85, 0.05) >= 0.8
    size = margin_size(0.05, 0.02, USUAL)
    assert margin_power(size, 0.05, 0.02, USUAL) >= 0.8
    assert margin_power(size, 0.0, 0.02, USUAL) <= 0.2
    assert lost_class_size(0.25, 0.05 / 40) == 24
    assert 0.75**24 <= 0.05 / 40 < 0.75**23


def test_what_no_size_can_tell_is_said() -> None:
    with pytest.raises(ValueError, match=r"margin of 0\.05 cannot tell a drop of 0\.05 from none"):
        margin_size(0.05, 0.05, USUAL)
    with pytest.raises(ValueError, match="floor of 0"):
        lost_class_size(0.0, 0.05)
    with pytest.raises(ValueError, match="power is 1"):
        PowerSettings(power=1)
