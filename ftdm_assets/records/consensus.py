"""What becomes of a group of duplicates: the likeliest label by its votes, or nobody.

Every annotation in the group is a vote, which weighs as much as its annotator is reliable
(``reliability``). The likeliest label wins if its confidence reaches the minimum and a member
carries it; else the group is lost, and a person has to look.

Invariants:
* A group keeps one member or none. Which one depends on contents and ids, never on row order.
* Whoever is dropped is told to whom it lost (where nobody wins: with whom it conflicts).
* A tie keeps nobody, whatever the minimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftdm_assets.records.reliability import Ballot, Reliability

DuplicateReason = Literal[
    "exact_duplicate", "near_duplicate", "outvoted", "conflicting_labels", "low_consensus"
]


@dataclass(frozen=True)
class Member:
    """A member of a group; it speaks for ``ballots``: its own annotation and absorbed ones."""

    record_id: str
    input: str
    output: str
    ballots: tuple[Ballot, ...]

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
    """An input that was dropped since its votes do not settle its label; for a person to settle.

    Attributes:
        record_ids: the annotations that were dropped with it.
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
    ballots = tuple(sorted(ballot for member in members for ballot in member.ballots))
    confidences = terms.reliability.confidences(ballots)
    label = min(confidences, key=lambda name: (-confidences[name], name))
    confidence = confidences[label]
    order = sorted(range(len(members)), key=lambda place: members[place].rank())
    carriers = [place for place in order if members[place].output == label]
    tied = sum(other == confidence for other in confidences.values()) > 1
    if not carriers or tied or confidence < terms.minimum:
        losses = [_conflict(members, order, place) for place in order]
        return Decision(None, label, confidence, ballots, tuple(losses))
    losses = [
        Loss(place, same_label if place in carriers else "outvoted", carriers[0])
        for place in order
        if place != carriers[0]
    ]
    return Decision(carriers[0], label, confidence, ballots, tuple(losses))


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
