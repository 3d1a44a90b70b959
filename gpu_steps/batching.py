"""Orders examples so that a batch holds rows of like length and little padding is computed.

Invariants: each epoch's order is a permutation of all examples and follows from seed and epoch
alone, so a resumed run sees the batches that it has not seen; batches come in random order, so
that length does not drift through an epoch.
"""

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

# Rows are sorted by length plus noise of this many tokens, or the same rows would always meet.
_NOISE_TOKENS = 6.0


class LengthBatches(Sampler[int]):
    """Yields indices; each `batch_size` of them in a row make one batch, the short one last."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield this epoch's order."""
        return iter(batch_order(self.lengths, self.batch_size, self.seed, self.epoch))


def batch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[int]:
    """The permutation of all indices for one epoch."""
    rng = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    noisy = [(length + rng.uniform(0, _NOISE_TOKENS), at) for at, length in enumerate(lengths)]
    # A random phase decides which rows fall into the one short batch.
    ordered = [at for _, at in sorted(noisy)]
    short = len(ordered) % batch_size
    start = rng.randrange(len(ordered) - short + 1) if short else 0
    rest = ordered[start : start + short]
    full = ordered[:start] + ordered[start + short :]
    batches = [full[at : at + batch_size] for at in range(0, len(full), batch_size)]
    rng.shuffle(batches)
    return [at for batch in batches for at in batch] + rest
