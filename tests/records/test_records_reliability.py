"""Reliabilities: planted error rates are found again, confidences mean what they say."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.agreement import Planted, planted
from ftdm_assets.records.reliability import UNKNOWN, Ballot, Reliability, reliabilities


def test_planted_error_rates_are_found_again() -> None:
    rates = (0.97, 0.9, 0.85, 0.75, 0.6)
    _, items = planted(Planted("", labels=40, items=1500, votes=3, rates=rates, confusable=0.8))
    found = reliabilities(items)
    for number, rate in enumerate(rates):
        assert abs(found.of(f"annotator {number}") - rate) < 0.05
    assert sum(found.items.values()) == 4500


def test_confidence_is_the_share_that_is_right() -> None:
    truth, items = planted(
        Planted("", labels=5, items=3000, votes=3, rates=(0.95, 0.85, 0.7, 0.6), confusable=1.0)
    )
    trusted = reliabilities(items)
    best = [max(c.items(), key=lambda x: x[1]) for c in (_confidences(trusted, i) for i in items)]
    sure = np.array([confidence for _, confidence in best])
    right = np.array([label == true for (label, _), true in zip(best, truth, strict=True)])
    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 1.01)):
        within = (sure >= low) & (sure < high)
        assert within.sum() > 100
        assert abs(right[within].mean() - sure[within].mean()) < 0.08


def _confidences(trusted: Reliability, item: dict[str, str]) -> dict[str, float]:
    return trusted.confidences([Ballot("", name, label) for name, label in item.items()])


def test_who_met_nobody_is_unknown() -> None:
    assert reliabilities([]) == Reliability()
    alone = reliabilities([{"ana": "x"}, {"ben": "y"}])
    assert alone.of("ana") == alone.of("stranger") == UNKNOWN


def test_one_meeting_proves_little() -> None:
    trusted = reliabilities([{"ana": "x", "ben": "y"}])
    assert trusted.by_annotator["ana"] == trusted.by_annotator["ben"]
    assert abs(trusted.of("ana") - UNKNOWN) < 0.05


ITEMS = st.lists(
    st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["x", "y", "z", ""]), max_size=5),
    max_size=20,
)


@settings(deadline=None)
@given(ITEMS, st.randoms(use_true_random=False))
def test_any_votes_in_any_order_give_the_same_probabilities(
    items: Sequence[dict[str, str]], random: st.DataObject
) -> None:
    found = reliabilities(items)
    shuffled = [dict(reversed(item.items())) for item in items]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reliabilities(shuffled) == found
    assert all(0 < rate < 1 for rate in found.by_annotator.values())
    for item in items:
        ballots = [Ballot(name, name, label) for name, label in item.items()]
        shares = found.confidences(ballots)
        assert set(shares) == set(item.values())
        assert 0 <= sum(shares.values()) <= 1 + 1e-5
        assert found.confidences(ballots[::-1]) == shares
