"""From raw annotations to training records, with a ledger that accounts for every row.

The order is: normalise → empty, too long → mask personal data → exact duplicates with consensus →
near duplicates with consensus → too near to a golden example → suspected label errors.

Invariants:
* Every raw row is in the ledger exactly once, kept or dropped with the reason.
* What is kept depends on contents and ids, never on the order of the rows.
* Nothing that is kept equals, or is near, a golden example or another kept record.
* No record is kept whose data class is above the class that the model may learn from. A check on
  the raw snapshot stops the run before that; here it holds for whoever calls without the graph.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from ftdm_assets.records import personal_data
from ftdm_assets.records.cleaning_steps import Row, Worksheet
from ftdm_assets.records.consensus import ReviewItem, Terms
from ftdm_assets.records.contract import RAW_COLUMNS
from ftdm_assets.records.data_classes import (
    DATA_CLASSES,
    PERSONAL_DATA_CHOICES,
    DataClass,
    PersonalData,
    personal_data_choices,
)
from ftdm_assets.records.label_errors import Suspect
from ftdm_assets.records.reliability import Reliability
from ftdm_assets.records.structured import OutputForm

RECORD_COLUMNS = (*RAW_COLUMNS, "consensus_confidence", "votes")
LEDGER_COLUMNS = ("row", "record_id", "outcome", "reason", "lost_to", "similarity", "masked")


@dataclass(frozen=True)
class CleanSettings:
    """Thresholds and choices of the cleaning.

    Attributes:
        max_characters: inputs longer than this are dropped.
        near_threshold: similarity (0-1) from which two records are near duplicates.
        golden_threshold: similarity from which a record is too near to a golden example.
        minimum_consensus: annotations of one input that give no label this confidence (0-1) lose
            it, and it goes to review.
        label_errors: drop suspected label errors, or keep and list them only.
        label_error_confidence: suspects less likely to be wrong than this (0-1) are not dropped.
        personal_data: mask it, drop the record, or keep it as it is. ``refuse`` drops as well: a
            check on the raw snapshot has stopped the run before.
        personal_data_by_class: another choice for records of a data class.
        allowed_data_class: the highest class that the model may learn from.
    """

    max_characters: int = 4000
    near_threshold: float = 0.8
    golden_threshold: float = 0.8
    minimum_consensus: float = 0.8
    label_errors: Literal["drop", "keep"] = "drop"
    label_error_confidence: float = 0.5
    personal_data: PersonalData = "mask"
    personal_data_by_class: Mapping[DataClass, PersonalData] = field(default_factory=dict)
    allowed_data_class: str = "internal"

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant.

        Raises:
            ValueError: naming the setting and its values.
        """
        choices = {
            "label_errors": ("drop", "keep"),
            "personal_data": PERSONAL_DATA_CHOICES,
            "allowed_data_class": DATA_CLASSES,
        }
        for name, values in choices.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is {getattr(self, name)!r}; use {', '.join(values)}")
        for name, choice in self.personal_data_by_class.items():
            if name not in DATA_CLASSES or choice not in PERSONAL_DATA_CHOICES:
                raise ValueError(
                    f"personal_data_by_class says {name}: {choice}; use "
                    f"{', '.join(DATA_CLASSES)}, and {', '.join(PERSONAL_DATA_CHOICES)} for each"
                )
        shares = ("near_threshold", "golden_threshold", "minimum_consensus")
        for name in (*shares, "label_error_confidence"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a number in (0, 1]")
        if self.max_characters < 1:
            raise ValueError(f"max_characters is {self.max_characters}; use at least 1")


@dataclass(frozen=True)
class CleanResult:
    """What was kept, what became of every row, and by which thresholds.

    Attributes:
        records: RECORD_COLUMNS, sorted by record id: the raw frame's columns, cleaned; ``votes`` is
            the number of annotations that a record speaks for, ``consensus_confidence`` the
            probability (0-1) that they have the label right, NaN where there is only one.
        ledger: LEDGER_COLUMNS, one row a raw row, in the order of the raw frame. ``reason`` is
            blank for kept rows; ``lost_to`` names a record or golden example, or is blank;
            ``similarity`` is NaN where it does not apply; ``masked`` lists kinds with commas.
        suspects: suspected label errors, most confident first, dropped or not.
        review: inputs lost because their annotations do not settle the label, by input.
        reliability: how far each annotator was trusted.
        thresholds: the settings.
        counts: rows by reason, and ``raw``, ``kept``, ``dropped``, ``masked``, ``suspects``.
    """

    records: pd.DataFrame
    ledger: pd.DataFrame
    suspects: tuple[Suspect, ...]
    review: tuple[ReviewItem, ...]
    reliability: Reliability
    thresholds: dict[str, Any]
    counts: dict[str, int]


def clean(
    raw: pd.DataFrame,
    golden: Mapping[str, str],
    settings: CleanSettings | None = None,
    *,
    judge_labels: bool = True,
    form: OutputForm | None = None,
) -> CleanResult:
    """Clean a raw frame; ``golden`` maps the golden examples' ids to their inputs.

    ``judge_labels`` of False leaves the last step out, the only one that trains a model. ``form``
    is that of outputs which are no labels: an output that is not of it is dropped.

    Raises:
        ValueError: if the frame lacks a column of the contract.
    """
    missing = [column for column in RAW_COLUMNS if column not in raw.columns]
    if missing:
        raise ValueError(f"the raw frame has no column {', '.join(missing)}; check the source")
    settings = settings or CleanSettings()
    sheet = Worksheet.of(raw, exclusive=form is None or form.exclusive)
    sheet.refuse_data_classes(settings.allowed_data_class)
    sheet.normalise(settings.max_characters)
    choices = personal_data_choices(settings.personal_data, settings.personal_data_by_class)
    sheet.handle_personal_data(choices, form.mask if form else personal_data.mask)
    if form is not None:
        sheet.drop_wrong_outputs(form.problem)
    trusted = sheet.settle_exact_duplicates(settings.minimum_consensus)
    sheet.settle_near_duplicates(
        settings.near_threshold, Terms(trusted, settings.minimum_consensus)
    )
    # Where some records are masked and others are not, golden examples are compared both ways.
    for masked in sorted({choice == "mask" for choice in choices.values()}):
        sheet.drop_near_golden(golden, settings.golden_threshold, masked)
    suspects: list[Suspect] = []
    if judge_labels:
        suspects = sheet.find_label_errors(
            settings.label_error_confidence, drop=settings.label_errors == "drop"
        )
    return CleanResult(
        records=_records(sheet.rows),
        ledger=_ledger(sheet.rows),
        suspects=tuple(suspects),
        review=tuple(sorted(sheet.review, key=lambda item: (item.input, item.record_ids))),
        reliability=trusted,
        thresholds=asdict(settings),
        counts=_counts(sheet.rows, len(suspects)),
    )


def _records(rows: list[Row]) -> pd.DataFrame:
    kept = sorted((row for row in rows if row.kept), key=lambda row: row.record_id)
    values = [[getattr(row, column) for column in RECORD_COLUMNS] for row in kept]
    frame = pd.DataFrame(values, columns=list(RECORD_COLUMNS))
    numbers = {"row": "int64", "consensus_confidence": "float64", "votes": "int64"}
    return frame.astype({**dict.fromkeys(RAW_COLUMNS, object), **numbers})


def _ledger(rows: list[Row]) -> pd.DataFrame:
    entries = [
        (
            row.row,
            row.record_id,
            "kept" if row.kept else "dropped",
            row.reason,
            row.lost_to,
            row.similarity,
            ",".join(row.masked),
        )
        for row in rows
    ]
    frame = pd.DataFrame(entries, columns=list(LEDGER_COLUMNS))
    texts = ("record_id", "outcome", "reason", "lost_to", "masked")
    return frame.astype({"row": "int64", "similarity": "float64", **dict.fromkeys(texts, object)})


def _counts(rows: list[Row], suspects: int) -> dict[str, int]:
    reasons = Counter(row.reason for row in rows if not row.kept)
    kept = sum(row.kept for row in rows)
    return {
        "raw": len(rows),
        "kept": kept,
        "dropped": len(rows) - kept,
        "masked": sum(bool(row.masked) for row in rows),
        "suspects": suspects,
        **dict(sorted(reasons.items())),
    }
