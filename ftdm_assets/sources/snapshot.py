"""What reading a label source gives."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Snapshot:
    """The raw frame of a source in one state; ``row`` counts from 1."""

    frame: pd.DataFrame
    state: str
