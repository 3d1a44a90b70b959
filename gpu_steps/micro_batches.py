"""Splits a batch into micro-batches that fit in memory.

Invariants: an optimisation step sees the same rows in the same order whatever the micro-batch; a
step that ran out of memory leaves no trace and is done again as a whole with the next smaller
micro-batch, from the random state that it began with; so the result is that of a run that had the
smaller micro-batch from that step on.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from gpu_steps.config import StepError

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an allocation failed, on an accelerator or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, Exception) and bool(should_reduce_batch_size(error))


def or_none_if_out_of_memory(work: Callable[[], T]) -> T | None:
    """Return what `work` returns, or None when it ran out of memory; its tensors are gone then."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler: the error's frames held the tensors.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def pieces(rows: Sequence[int], size: int) -> list[list[int]]:
    """Cut `rows` into pieces of `size`, the last one may be shorter."""
    return [list(rows[at : at + size]) for at in range(0, len(rows), size)]


@contextmanager
def out_of_memory_explained(what: str, remedy: str) -> Iterator[None]:
    """Turn an allocation that fails in the block into a StepError of one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise StepError(f"out of memory {what}; {remedy}.") from error


class RandomState:
    """The state of torch's generators now, to return to."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore(self) -> None:
        """Go back to it."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)
