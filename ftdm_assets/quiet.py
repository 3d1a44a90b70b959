"""Notices that we have read: Dagster announces its preview and beta functions at every use."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def accepted_notices() -> Iterator[None]:
    """Keep Dagster's notices about preview and beta functions out of people's terminals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield
