"""A dataset of records as files of a Hub repository: one Parquet file and its card.

Invariants:
* The Parquet file carries every column of every record, so the dataset's digest follows from it
  alone, without this project (the card has the few lines that compute it).
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from ftdm_assets.provenance.digests import merkle_root
from ftdm_assets.provenance.store import computed_digest

DATA_FILE = "data/train-00000-of-00001.parquet"
CARD_FILE = "README.md"


def dataset_files(rows: Sequence[Mapping[str, Any]], card: str) -> dict[str, bytes | Path]:
    """Return the files of a repository, by name."""
    table = pyarrow.Table.from_pylist([dict(row) for row in rows])
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return {DATA_FILE: buffer.getvalue(), CARD_FILE: card.encode()}


def dataset_digest(folder: Path) -> str:
    """Return the digest of the dataset that lies in a folder.

    Raises:
        ValueError: if its file cannot be read.
        OSError: if it is not there.
    """
    return merkle_root(
        computed_digest(row) for row in parquet.read_table(folder / DATA_FILE).to_pylist()
    )
