"""What becomes of a group of duplicates: the likeliest label by its votes, or nobody.

Every annotation in the group is a vote, which weighs as much as its annotator is reliable
(``reliability``). The likeliest label wins if its confidence reaches the minimum and a member
carries it; else the group is lost, and a person has to look. A review outranks every label, however
many there are: whoever answered it knew that the labels disagree. Where one is in the group only
reviews vote, and reviews that agree need no minimum.

Invariants:
* A group keeps one member or none. Which one depends on contents and ids, never on row order.
* Whoever is dropped is told to whom it lost (where nobody wins: with whom it conflicts).
* A tie keeps nobody, whatever the minimum.
* What a person has settled is not asked again, unless reviews disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftdm_assets.records.reliability import Ballot, Reliability

DuplicateReason = Literal[
    "exact_duplicate",
    "near_duplicate",
    "outvoted",
    "superseded_by_review",
    "conflicting_labels",
    "low_consensus",
]


@dataclass(frozen=True)
class Member:
    """A member of a group; it speaks for ``ballots``: its own annotation and absorbed ones.

    ``review`` tells an answer to a review from a label.
    """

    record_id: str
    input: str
    output: str
    ballots: tuple[Ballot, ...]
    review: bool = False

    def rank(self) -> tuple[str, str, str]:
        """Return what chooses among equals: content first, since ids may count rows."""
        return (self.input, self.output, self.record_id)


@dataclass(frozen=True)
class Terms:
    """Whom to trust how far, and the least confidence (0-1) that a consensus needs."""

    reliability: Reliability
    minimum: float


@dataclass(frozen=True)
class Loss:
    """A member that is dropped, by its position; ``lost_to`` is another's, or None."""

    place: int
    reason: DuplicateReason
    lost_to: int | None


@dataclass(frozen=True)
class Decision:
    """What was decided.

    Attributes:
        kept: the position of the member that is kept, None where nobody wins.
        label: the likeliest label (of several, the first by name).
        confidence: the probability that it is right, 0-1.
        ballots: all votes of the group, sorted.
        losses: who is dropped, and why.
    """

    kept: int | None
    label: str
    confidence: float
    ballots: tuple[Ballot, ...]
    losses: tuple[Loss, ...]


@dataclass(frozen=True)
class ReviewItem:
    """An input whose label a person has to settle.

    Attributes:
        record_ids: the annotations in doubt.
        input: the text, as cleaned.
        votes: who gave which label, in which record.
        suggested: the likeliest label.
        confidence: the probability that it is right, 0-1.
        why: one sentence.
    """

    record_ids: tuple[str, ...]
    input: str
    votes: tuple[Ballot, ...]
    suggested: str
    confidence: float
    why: str

    def row(self) -> dict[str, Any]:
        """Return the item in JSON values."""
        votes = [vote._asdict() for vote in self.votes]
        return {**vars(self), "record_ids": list(self.record_ids), "votes": votes}


def decide(
    members: Sequence[Member],
    same_label: Literal["exact_duplicate", "near_duplicate"],
    terms: Terms,
) -> Decision:
    """Decide a group: ``same_label`` is the reason for losers that carry the winning label."""
    reviews = [member for member in members if member.review]
    voters = reviews or members
    ballots = tuple(sorted(ballot for member in voters for ballot in member.ballots))
    confidences = terms.reliability.confidences(ballots)
    label = min(confidences, key=lambda name: (-confidences[name], name))
    confidence = confidences[label]
    order = sorted(range(len(members)), key=lambda place: members[place].rank())
    carriers = [p for p in order if members[p] in voters and members[p].output == label]
    tied = sum(other == confidence for other in confidences.values()) > 1
    unsure = confidence < terms.minimum and not (reviews and len(confidences) == 1)
    if not carriers or tied or unsure:
        losses = [_conflict(members, order, place) for place in order]
        return Decision(None, label, confidence, ballots, tuple(losses))
    kept = carriers[0]
    losses = [
        Loss(place, _reason(members[place], members[kept], same_label), kept)
        for place in order
        if place != kept
    ]
    return Decision(kept, label, confidence, ballots, tuple(losses))


def _reason(
    loser: Member, winner: Member, same_label: Literal["exact_duplicate", "near_duplicate"]
) -> DuplicateReason:
    if winner.review and not loser.review:
        return "superseded_by_review"
    return same_label if loser.output == winner.output else "outvoted"


def review_item(members: Sequence[Member], decision: Decision, terms: Terms) -> ReviewItem:
    """Return what a person needs to settle a group that nobody has won."""
    first = min(members, key=Member.rank)
    labels = len({ballot.label for ballot in decision.ballots})
    why = (
        f"{len(decision.ballots)} annotations give {labels} label{'s' * (labels > 1)}; the "
        f"likeliest, {decision.label!r}, has a confidence of {decision.confidence:.2f}, "
        f"{terms.minimum:.2f} asked for"
    )
    ids = tuple(sorted(ballot.record_id for ballot in decision.ballots))
    return ReviewItem(ids, first.input, decision.ballots, decision.label, decision.confidence, why)


def _conflict(members: Sequence[Member], order: Sequence[int], place: int) -> Loss:
    rivals = [other for other in order if members[other].output != members[place].output]
    if rivals:
        return Loss(place, "conflicting_labels", rivals[0])
    return Loss(place, "low_consensus", None)
