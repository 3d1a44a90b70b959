"""Which replica a request goes to."""

from hypothesis import given
from hypothesis import strategies as st

from serving.balance import Balance

URLS = ["a", "b", "c"]


def test_the_one_with_the_fewest_and_of_equals_another_each_time() -> None:
    balance = Balance()
    assert sorted(str(balance.take(URLS)) for _ in URLS) == URLS
    balance.give_back("b")
    assert balance.take(URLS) == "b"
    for url in URLS:
        balance.give_back(url)
    chosen = []
    for _ in URLS:
        chosen.append(balance.take(URLS))
        balance.give_back(str(chosen[-1]))
    assert sorted(str(one) for one in chosen) == URLS


def test_one_that_failed_only_if_there_is_no_other() -> None:
    balance = Balance()
    assert {balance.take(["a", "b"], tried=["a"]) for _ in range(5)} == {"b"}
    assert balance.take(["a"], tried=["a"]) == "a"
    assert balance.take([], tried=["a"]) is None


@given(st.lists(st.sampled_from(["take", "give"]), max_size=60))
def test_the_work_is_spread_evenly_whatever_comes_and_goes(steps: list[str]) -> None:
    balance, held = Balance(), list[str]()
    for step in steps:
        if step == "take":
            held.append(str(balance.take(URLS)))
        elif held:
            balance.give_back(held.pop(0))
        if step == "take":
            # Whoever was chosen had the fewest.
            assert held.count(held[-1]) - 1 == min(held[:-1].count(url) for url in URLS)
