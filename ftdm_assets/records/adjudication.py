"""Reviews: which inputs a person should look at again, and what the answer is worth.

A review outranks every label of the same input, however many there are: whoever answers it knows
that the labels disagree. Between several reviews of one input the most votes win.

Invariants:
* Inputs count as the same by the key of ``normalise.duplicate_key``.
* An annotator has one say an input: the latest one. An input that was reviewed is not asked again,
  unless its reviews are a tie.
* The result depends on contents and ids, never on the order of the rows.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ftdm_assets.records.contract import REVIEW
from ftdm_assets.records.normalise import duplicate_key

Reason = Literal["tie", "low_agreement", "suspected_label_error"]
_URGENCY: dict[Reason, int] = {"tie": 0, "low_agreement": 1, "suspected_label_error": 2}


@dataclass(frozen=True)
class ReviewItem:
    """An input to review: why, its votes by label, and the share (0-1) of the leading label."""

    key: str
    input: str
    reason: Reason
    votes: tuple[tuple[str, int], ...]
    share: float


def superseded(
    record_ids: Sequence[str], inputs: Sequence[str], roles: Sequence[str]
) -> dict[str, str]:
    """Return for each label of a reviewed input the review that outranks it, by record ids."""
    keys = [duplicate_key(text) for text in inputs]
    reviews: dict[str, str] = {}
    for record_id, key, role in sorted(zip(record_ids, keys, roles, strict=True), reverse=True):
        if role == REVIEW:
            reviews[key] = record_id
    return {
        record_id: reviews[key]
        for record_id, key, role in zip(record_ids, keys, roles, strict=True)
        if role != REVIEW and key in reviews
    }


def needs_review(
    frame: pd.DataFrame, below: float, suspects: Collection[str] = ()
) -> list[ReviewItem]:
    """Return what to review, the most doubtful first: ties, low agreement, suspects.

    Args:
        frame: the raw frame.
        below: an input is in doubt while its leading label has less than this share (0-1].
        suspects: record ids of suspected label errors.

    Raises:
        ValueError: if ``below`` is outside (0, 1].
    """
    if not 0 < below <= 1:
        raise ValueError(f"the limit is {below}; use a share in (0, 1], such as 0.7")
    says: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    texts: dict[str, str] = {}
    suspected: set[str] = set()
    ordered = frame.sort_values(["annotated_at", "record_id"], kind="stable")
    columns = ("record_id", "input", "output", "annotator", "role")
    for record_id, text, output, annotator, role in zip(
        *(ordered[name].astype(str) for name in columns), strict=True
    ):
        if not text.strip() or not output.strip():
            continue
        key = duplicate_key(text)
        says[key][role, annotator] = output.strip()
        texts[key] = min(text, texts.get(key, text))
        if record_id in suspects:
            suspected.add(key)
    items = [_item(key, texts[key], votes, below, key in suspected) for key, votes in says.items()]
    found = [item for item in items if item is not None]
    return sorted(found, key=lambda item: (_URGENCY[item.reason], item.share, item.key))


def _item(
    key: str, text: str, says: dict[tuple[str, str], str], below: float, suspected: bool
) -> ReviewItem | None:
    reviews = [label for (role, _), label in says.items() if role == REVIEW]
    votes = Counter(reviews or says.values())
    most = max(votes.values())
    tie = sum(count == most for count in votes.values()) > 1
    share = most / sum(votes.values())
    reason: Reason
    if tie:
        reason = "tie"
    elif reviews:
        return None
    elif share < below:
        reason = "low_agreement"
    elif suspected:
        reason = "suspected_label_error"
    else:
        return None
    return ReviewItem(key, text, reason, tuple(sorted(votes.items())), share)
