"""What becomes of a group of duplicates: the label with most votes wins, a tie loses everything.

Invariants:
* A group keeps one member or none. Which one depends on contents and ids, never on row order.
* Whoever is dropped is told to whom it lost (in a tie: with whom it conflicts).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

DuplicateReason = Literal["exact_duplicate", "near_duplicate", "outvoted", "conflicting_labels"]


@dataclass(frozen=True)
class Member:
    """A member of a group; ``votes`` is the number of annotations that it speaks for."""

    record_id: str
    input: str
    output: str
    votes: int = 1

    def rank(self) -> tuple[str, str, str]:
        """Return what chooses among equals: content first, since ids may count rows."""
        return (self.input, self.output, self.record_id)


@dataclass(frozen=True)
class Loss:
    """A member that is dropped, by its position in the group."""

    place: int
    reason: DuplicateReason
    lost_to: int


@dataclass(frozen=True)
class Decision:
    """The position of the member that is kept (None in a tie), its votes, and who lost."""

    kept: int | None
    votes: int
    losses: tuple[Loss, ...]


def decide(
    members: Sequence[Member], same_label: Literal["exact_duplicate", "near_duplicate"]
) -> Decision:
    """Decide a group: ``same_label`` is the reason for losers that carry the winning label."""
    votes: Counter[str] = Counter()
    for member in members:
        votes[member.output] += member.votes
    most = max(votes.values())
    winners = [label for label, count in votes.items() if count == most]
    order = sorted(range(len(members)), key=lambda place: members[place].rank())
    if len(winners) > 1:
        return Decision(None, 0, tuple(_conflict(members, order, place) for place in order))
    kept = next(place for place in order if members[place].output == winners[0])
    losses = [
        Loss(place, same_label if members[place].output == winners[0] else "outvoted", kept)
        for place in order
        if place != kept
    ]
    return Decision(kept, most, tuple(losses))


def _conflict(members: Sequence[Member], order: Sequence[int], place: int) -> Loss:
    rival = next(other for other in order if members[other].output != members[place].output)
    return Loss(place, "conflicting_labels", rival)
