"""The decision of a group of duplicates, and that the order of its members never matters."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ftdm_assets.records.consensus import Decision, Member, Terms, decide, review_item
from ftdm_assets.records.reliability import UNKNOWN, Ballot, Reliability

NOBODY_KNOWN = Terms(Reliability(), 0.8)
TRUSTED = Reliability({"ana": 0.98, "ben": 0.7, "cy": 0.9, "dee": 0.6})


def member(record_id: str, text: str, label: str, *others: tuple[str, str], by: str = "") -> Member:
    """Return a member with its own annotation, and absorbed ones as (annotator, label)."""
    own = Ballot(record_id, by or record_id, label)
    absorbed = [Ballot(f"{record_id}+{n}", *other) for n, other in enumerate(others)]
    return Member(record_id, text, label, (own, *absorbed))


def lost(decision: Decision) -> set[tuple[int, str, int | None]]:
    return {(loss.place, loss.reason, loss.lost_to) for loss in decision.losses}


def test_the_majority_wins_and_speaks_for_all_votes() -> None:
    members = [member("r1", "b", "x"), member("r2", "a", "x"), member("r3", "c", "y")]
    decision = decide(members, "exact_duplicate", NOBODY_KNOWN)
    assert (decision.kept, decision.label, len(decision.ballots)) == (1, "x", 3)
    assert decision.confidence == UNKNOWN
    assert lost(decision) == {(0, "exact_duplicate", 1), (2, "outvoted", 1)}


def test_votes_count_not_members() -> None:
    members = [
        member("r1", "a", "x", ("p", "x"), ("q", "x"), ("s", "x")),
        member("r2", "b", "y"),
        member("r3", "c", "y"),
    ]
    assert decide(members, "near_duplicate", NOBODY_KNOWN).kept == 0


def test_a_tie_keeps_nobody_and_goes_to_review() -> None:
    members = [member("r1", "a", "x"), member("r2", "b", "y"), member("r3", "c", "z")]
    decision = decide(members, "near_duplicate", Terms(Reliability(), 0.01))
    assert decision.kept is None
    assert [loss.reason for loss in decision.losses] == ["conflicting_labels"] * 3
    for loss in decision.losses:
        assert loss.lost_to is not None
        assert members[loss.place].output != members[loss.lost_to].output
    item = review_item(members, decision, NOBODY_KNOWN)
    assert (item.record_ids, item.input, item.suggested) == (("r1", "r2", "r3"), "a", "x")
    assert item.why == (
        "3 annotations give 3 labels; the likeliest, 'x', has a confidence of 0.33, 0.80 asked for"
    )
    assert item.row()["votes"][1] == {"record_id": "r2", "annotator": "r2", "label": "y"}


def test_a_reliable_annotator_wins_against_an_unreliable_one() -> None:
    members = [member("r1", "a", "x", by="dee"), member("r2", "b", "y", by="ana")]
    decision = decide(members, "exact_duplicate", Terms(TRUSTED, 0.8))
    assert (decision.kept, decision.label) == (1, "y")
    # By Bayes: 0.98 x 0.4 against 0.02 x 0.6.
    assert decision.confidence == round(0.392 / (0.392 + 0.012), 6)
    assert decide(members, "exact_duplicate", Terms(TRUSTED, 0.98)).kept is None
    close = [member("r1", "a", "x", by="cy"), member("r2", "b", "y", by="ana")]
    assert decide(close, "exact_duplicate", Terms(TRUSTED, 0.9)).kept is None


def test_one_label_from_annotators_who_are_hardly_ever_right_is_no_consensus() -> None:
    guessing = Reliability({"p": 0.5, "q": 0.5})
    members = [member("r1", "a", "x", by="p"), member("r2", "b", "x", by="q")]
    decision = decide(members, "exact_duplicate", Terms(guessing, 0.8))
    assert lost(decision) == {(0, "low_consensus", None), (1, "low_consensus", None)}
    assert decision.confidence == 0.5


def test_a_label_that_no_member_carries_cannot_win() -> None:
    members = [
        member("r1", "a", "x", ("ana", "y"), by="dee"),
        member("r2", "b", "z", ("ana", "y"), by="dee"),
    ]
    decision = decide(members, "near_duplicate", Terms(TRUSTED, 0.5))
    assert (decision.kept, decision.label) == (None, "y")


MEMBERS = st.lists(
    st.builds(
        member,
        st.integers(0, 99).map(lambda n: f"r{n:02d}"),
        st.sampled_from(["a", "A", "a!"]),
        st.sampled_from(["x", "y", "z"]),
        st.tuples(st.sampled_from(["ana", "ben", "new"]), st.sampled_from(["x", "y"])),
        by=st.sampled_from(["ana", "ben", "cy", "dee", "new"]),
    ),
    min_size=2,
    max_size=7,
    unique_by=lambda one: one.record_id,
)


@settings(deadline=None)
@given(MEMBERS, st.floats(0.01, 1), st.randoms(use_true_random=False))
def test_order_never_matters_and_nobody_is_forgotten(
    members: list[Member], minimum: float, random: st.DataObject
) -> None:
    terms = Terms(TRUSTED, minimum)
    decision = decide(members, "exact_duplicate", terms)
    gone = [loss.place for loss in decision.losses]
    kept = [] if decision.kept is None else [decision.kept]
    assert sorted([*gone, *kept]) == list(range(len(members)))
    assert 0 <= decision.confidence <= 1
    if decision.kept is not None:
        assert decision.confidence >= minimum
        assert members[decision.kept].output == decision.label
    shuffled = list(members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = decide(shuffled, "exact_duplicate", terms)
    assert (again.kept is None) == (decision.kept is None)
    if decision.kept is not None and again.kept is not None:
        assert shuffled[again.kept] == members[decision.kept]
    assert (again.confidence, again.ballots) == (decision.confidence, decision.ballots)

    def named(found: Decision, given: list[Member]) -> set[tuple[str, str, str]]:
        return {
            (given[place].record_id, why, "" if to is None else given[to].record_id)
            for place, why, to in lost(found)
        }

    assert named(again, shuffled) == named(decision, members)
