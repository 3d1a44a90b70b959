"""The decision of a group of duplicates, and that the order of its members never matters."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.records.consensus import Member, decide

MEMBERS = st.lists(
    st.builds(
        Member,
        record_id=st.integers(0, 99).map(lambda n: f"r{n:02d}"),
        input=st.sampled_from(["a", "A", "a!"]),
        output=st.sampled_from(["x", "y", "z"]),
        votes=st.integers(1, 3),
    ),
    min_size=2,
    max_size=7,
    unique_by=lambda member: member.record_id,
)


def test_the_majority_wins_and_speaks_for_its_voters() -> None:
    members = [Member("r1", "b", "x"), Member("r2", "a", "x"), Member("r3", "c", "y")]
    decision = decide(members, "exact_duplicate")
    assert (decision.kept, decision.votes) == (1, 2)
    assert {(loss.place, loss.reason, loss.lost_to) for loss in decision.losses} == {
        (0, "exact_duplicate", 1),
        (2, "outvoted", 1),
    }


def test_votes_count_not_members() -> None:
    members = [Member("r1", "a", "x", votes=3), Member("r2", "b", "y"), Member("r3", "c", "y")]
    assert decide(members, "near_duplicate").kept == 0


def test_a_tie_keeps_nobody() -> None:
    members = [Member("r1", "a", "x"), Member("r2", "b", "y"), Member("r3", "c", "z")]
    decision = decide(members, "near_duplicate")
    assert decision.kept is None
    assert [loss.reason for loss in decision.losses] == ["conflicting_labels"] * 3
    assert all(
        members[loss.place].output != members[loss.lost_to].output for loss in decision.losses
    )


@given(MEMBERS, st.randoms(use_true_random=False))
def test_order_never_matters_and_nobody_is_forgotten(
    members: list[Member], random: st.DataObject
) -> None:
    decision = decide(members, "exact_duplicate")
    gone = [loss.place for loss in decision.losses]
    assert sorted([*gone, *([] if decision.kept is None else [decision.kept])]) == list(
        range(len(members))
    )
    votes: Counter[str] = Counter()
    for member in members:
        votes[member.output] += member.votes
    if decision.kept is not None:
        assert votes[members[decision.kept].output] == decision.votes == max(votes.values())
    shuffled = list(members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = decide(shuffled, "exact_duplicate")
    assert (again.kept is None) == (decision.kept is None)
    if decision.kept is not None and again.kept is not None:
        assert shuffled[again.kept] == members[decision.kept]
    assert {(shuffled[x.place], x.reason, shuffled[x.lost_to]) for x in again.losses} == {
        (members[x.place], x.reason, members[x.lost_to]) for x in decision.losses
    }
