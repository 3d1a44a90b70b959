"""What a person should label again: what the cleaning cannot settle, then what it suspects.

Invariants:
* The rule is the cleaning's own: what is listed here is what a new dataset would lose, or suspects.
* What has been reviewed is not asked again, unless its reviews disagree.
* The result depends on contents and ids, never on the order of the rows.
"""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.consensus import ReviewItem
from ftdm_assets.records.contract import REVIEW
from ftdm_assets.records.label_errors import Suspect
from ftdm_assets.records.normalise import duplicate_key, normalise_output
from ftdm_assets.records.reliability import Ballot


def in_doubt(
    frame: pd.DataFrame, settings: CleanSettings, suspects: Iterable[Suspect] = ()
) -> list[ReviewItem]:
    """Return the inputs of a raw frame to review, the most doubtful first.

    ``input`` is the text as the source holds it. Suspects whose record has another label by now
    are left out.
    """
    result = clean(frame, {}, settings, judge_labels=False)
    texts = dict(zip(frame["record_id"], frame["input"], strict=True))
    unsettled = [
        replace(item, input=min(str(texts[name]) for name in item.record_ids))
        for item in sorted(result.review, key=lambda item: (item.confidence, item.input))
    ]
    reviewed = {duplicate_key(text) for text in frame.loc[frame["role"] == REVIEW, "input"]}
    asked = reviewed | {duplicate_key(item.input) for item in unsettled}
    rows = {str(row["record_id"]): row for row in frame.to_dict("records")}
    found = [
        _suspected(suspect, str(rows[suspect.record_id]["input"]), rows[suspect.record_id])
        for suspect in suspects
        if suspect.record_id in rows
        and normalise_output(str(rows[suspect.record_id]["output"])) == suspect.given
    ]
    return unsettled + [item for item in found if duplicate_key(item.input) not in asked]


def _suspected(suspect: Suspect, text: str, row: dict[object, object]) -> ReviewItem:
    why = (
        f"the label {suspect.given!r} is wrong with a probability of {suspect.confidence:.2f}; "
        f"texts like it are {suspect.suggested!r}"
    )
    ballot = Ballot(suspect.record_id, str(row["annotator"]), suspect.given)
    return ReviewItem(
        (suspect.record_id,), text, (ballot,), suspect.suggested, suspect.confidence, why
    )
