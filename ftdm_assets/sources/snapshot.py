"""What reading a label source gives: its records in one state, or an error."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from ftdm_assets.sources.tables import SourceError


@dataclass(frozen=True)
class Snapshot:
    """The raw frame of a source in one state; ``row`` counts from 1."""

    frame: pd.DataFrame
    state: str


def read_unchanged(
    state: Callable[[], str], read: Callable[[], pd.DataFrame], what: str
) -> Snapshot:
    """Read a source between two looks at its state; ``what`` names it in the message.

    Raises:
        SourceError: if the state has changed meanwhile.
    """
    before = state()
    frame = read()
    if state() != before:
        raise SourceError(f"{what} changed while it was read; run again when nobody writes to it")
    return Snapshot(frame, before)
