"""The steps of the cleaning, each on the rows that the steps before have left.

Invariants:
* A row is dropped once, by the first step that has a reason, and never comes back.
* Steps read contents, ids and votes; the position of a row decides nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from ftdm_assets.records import consensus, duplicates, personal_data
from ftdm_assets.records.contract import REVIEW
from ftdm_assets.records.data_classes import PersonalData, classes_up_to
from ftdm_assets.records.label_errors import LIKELY, Suspect, suspected_label_errors
from ftdm_assets.records.normalise import duplicate_key, normalise, normalise_output
from ftdm_assets.records.reliability import Ballot, Reliability, reliabilities


@dataclass(slots=True)
class Row:
    """A raw row on its way through the steps; ``reason`` is blank while it is kept."""

    record_id: str
    input: str
    output: str
    annotator: str
    annotated_at: str
    source: str
    data_class: str
    actor: str
    role: str
    row: int
    reason: str = ""
    lost_to: str = ""
    similarity: float = math.nan
    masked: tuple[str, ...] = ()
    absorbed: tuple[Ballot, ...] = ()
    consensus_confidence: float = math.nan

    @property
    def kept(self) -> bool:
        """Whether no step has dropped the row so far."""
        return not self.reason

    @property
    def ballots(self) -> tuple[Ballot, ...]:
        """Return the annotations that the row speaks for: its own alone, or a settled group's."""
        return self.absorbed or (Ballot(self.record_id, self.annotator, self.output),)

    @property
    def votes(self) -> int:
        """Return the number of annotations that the row speaks for."""
        return len(self.ballots)

    def drop(self, reason: str, lost_to: str = "", similarity: float = math.nan) -> None:
        """Drop the row."""
        self.reason, self.lost_to, self.similarity = reason, lost_to, similarity


@dataclass(frozen=True)
class Worksheet:
    """All rows of a raw frame, in its order, and the steps to apply to them in turn.

    ``exclusive`` says whether of two outputs of one input one must be wrong: labels are votes,
    texts are none.
    """

    rows: list[Row]
    review: list[consensus.ReviewItem] = field(default_factory=list)
    exclusive: bool = True

    @staticmethod
    def of(raw: pd.DataFrame, *, exclusive: bool = True) -> "Worksheet":
        """Take the rows of a raw frame; missing values become blank."""
        fields = tuple(Row.__dataclass_fields__)[:9]
        columns = [[_text(value) for value in raw[name]] for name in fields]
        numbers = [int(number) for number in raw["row"]]
        rows = [Row(*values) for values in zip(*columns, numbers, strict=True)]
        return Worksheet(rows, exclusive=exclusive)

    def _left(self) -> list[Row]:
        return [row for row in self.rows if row.kept]

    def refuse_data_classes(self, allowed: str) -> None:
        """Drop what is above the allowed class, or of no known class."""
        fine = classes_up_to(allowed)
        for row in self._left():
            if row.data_class not in fine:
                row.drop("data_class_refused")

    def normalise(self, max_characters: int) -> None:
        """Normalise the texts; drop empty and over-long inputs, and missing outputs."""
        for row in self._left():
            row.input, row.output = normalise(row.input), normalise_output(row.output)
            if not row.input:
                row.drop("empty")
            elif len(row.input) > max_characters:
                row.drop("too_long")
            elif not row.output:
                row.drop("missing_output")

    def handle_personal_data(
        self,
        choices: Mapping[str, PersonalData],
        mask_output: Callable[[str], tuple[str, tuple[str, ...]]] = personal_data.mask,
    ) -> None:
        """Mask personal data in inputs and outputs, or drop the records that hold any.

        Args:
            choices: what to do with a record, by its data class.
            mask_output: masks an output.
        """
        for row in self._left():
            choice = choices[row.data_class]
            if choice == "keep":
                continue
            text, kinds = personal_data.mask(row.input)
            output, output_kinds = mask_output(row.output)
            if not kinds and not output_kinds:
                continue
            found = tuple(sorted({*kinds, *output_kinds}))
            if choice != "mask":
                row.drop("personal_data")
            else:
                row.input, row.output, row.masked = text, output, found

    def drop_wrong_outputs(self, problem: Callable[[str], str]) -> None:
        """Drop the rows whose output, masked or not, is not of the form that it must have."""
        for row in self._left():
            if problem(row.output):
                row.drop("wrong_output")

    def settle_exact_duplicates(self, minimum: float) -> Reliability:
        """Let the annotations of one input agree on one record; return whom to trust how far."""
        left = self._left()
        keys = [duplicate_key(row.input) for row in left]
        groups = list(duplicates.same_key_groups(keys))
        said = (_latest(left[place] for place in group) for group in groups)
        trusted = reliabilities(said) if self.exclusive else Reliability()
        terms = consensus.Terms(trusted, minimum)
        self._settle(left, groups, "exact_duplicate", lambda _a, _b: 1.0, terms)
        return trusted

    def settle_near_duplicates(self, threshold: float, terms: consensus.Terms) -> None:
        """Let near duplicates agree on one record; a record speaks for those it has absorbed."""
        left = self._left()
        groups = duplicates.near_groups([row.input for row in left], threshold)
        self._settle(left, groups, "near_duplicate", duplicates.similarity, terms)

    def _settle(
        self,
        rows: list[Row],
        groups: Iterable[list[int]],
        same_label: Literal["exact_duplicate", "near_duplicate"],
        similarity: Callable[[str, str], float],
        terms: consensus.Terms,
    ) -> None:
        if not self.exclusive:
            terms = replace(terms, minimum=0)
        for group in groups:
            members = [self._member(rows[place]) for place in group]
            decision = consensus.decide(members, same_label, terms)
            for loss in decision.losses:
                loser = rows[group[loss.place]]
                if loss.lost_to is None:
                    loser.drop(loss.reason)
                    continue
                winner = members[loss.lost_to]
                loser.drop(loss.reason, winner.record_id, similarity(loser.input, winner.input))
            if decision.kept is None:
                self.review.append(consensus.review_item(members, decision, terms))
            else:
                kept = rows[group[decision.kept]]
                kept.absorbed = decision.ballots
                if self.exclusive:
                    kept.consensus_confidence = decision.confidence

    def _member(self, row: Row) -> consensus.Member:
        output, ballots = row.output, row.ballots
        if not self.exclusive:
            output, ballots = "", tuple(ballot._replace(label="") for ballot in ballots)
        return consensus.Member(row.record_id, row.input, output, ballots, row.role == REVIEW)

    def drop_near_golden(self, golden: Mapping[str, str], threshold: float, masked: bool) -> None:
        """Drop what equals a golden example's input, or comes near to it."""
        ids = sorted(golden)
        texts = [normalise(golden[example_id]) for example_id in ids]
        if masked:
            texts = [personal_data.mask(text)[0] for text in texts]
        by_key = {duplicate_key(texts[place]): ids[place] for place in reversed(range(len(ids)))}
        for row in self._left():
            if example_id := by_key.get(duplicate_key(row.input)):
                row.drop("golden_overlap", example_id, 1.0)
        left = self._left()
        for pair in duplicates.contaminated([row.input for row in left], texts, threshold):
            left[pair.i].drop("golden_near_duplicate", ids[pair.j], pair.similarity)

    def find_label_errors(self, confidence: float, *, drop: bool) -> list[Suspect]:
        """Return suspected label errors; drop those that reach the confidence.

        What a person has reviewed teaches the models, and is not suspected.
        """
        left = self._left()
        reviewed = {row.record_id for row in left if row.role == REVIEW}
        found = suspected_label_errors(
            [row.record_id for row in left],
            [row.input for row in left],
            [row.output for row in left],
            at_least=min(confidence, LIKELY),
        )
        suspects = [suspect for suspect in found if suspect.record_id not in reviewed]
        wrong = {s.record_id for s in suspects if drop and s.confidence >= confidence}
        for row in left:
            if row.record_id in wrong:
                row.drop("suspected_label_error")
        return suspects


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if pd.isna(value) else str(value)


def _latest(rows: Iterable[Row]) -> dict[str, str]:
    """Return annotator to label: one say each, the latest; reviews are no labels."""
    return {
        row.annotator: row.output
        for row in sorted(rows, key=lambda row: (row.annotated_at, row.record_id))
        if row.role != REVIEW
    }
