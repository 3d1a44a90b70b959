"""The training rows: domain records and a small share of general instructions, in a seeded order.

Invariants:
* The general share is the wished one, as near as whole rows allow; a wish within 5-10 % is not
  rounded out of these bounds.
* Selection and order depend on contents, ids and the seed, never on the order of the input rows.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import pandas as pd

LOWEST_SHARE, HIGHEST_SHARE = Fraction(1, 20), Fraction(1, 10)
# A large dataset may see a general instruction several times an epoch, as it does over epochs.
MOST_ROUNDS = 8


@dataclass(frozen=True)
class Instruction:
    """A general instruction and its response, to keep the model's general ability."""

    instruction: str
    response: str

    @property
    def record_id(self) -> str:
        """An id from the content."""
        content = f"{self.instruction}\n\n{self.response}"
        return f"general-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class ChatRow:
    """One training example as text: the prompt, and the completion that is trained on."""

    record_id: str
    origin: Literal["domain", "general"]
    prompt: str
    completion: str


def general_rows(domain_rows: int, share: float) -> int:
    """Return how many general rows make up ``share`` of all rows beside the domain rows."""
    count = round(share * domain_rows / (1 - share))
    if not LOWEST_SHARE <= Fraction(str(share)) <= HIGHEST_SHARE:
        return count
    if count > HIGHEST_SHARE * (domain_rows + count):
        return count - 1
    return count + (count < LOWEST_SHARE * (domain_rows + count))


def training_rows(
    records: pd.DataFrame,
    instructions: Sequence[Instruction],
    render: Callable[[str, str], tuple[str, str]],
    share: float,
    seed: int,
    render_general: Callable[[str, str], tuple[str, str]] | None = None,
) -> list[ChatRow]:
    """Mix records with general instructions.

    ``records`` has record_id, input, output; ``render`` makes a prompt and completion of a pair,
    ``render_general`` those of general instructions, if they have a rendering of their own.

    Raises:
        ValueError: if the share is outside 0-50 % or there are too few different instructions.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"a general share of {share} is outside 0-0.5; 0.05 to 0.1 is usual")
    wanted = general_rows(len(records), share)
    different = {item.record_id: item for item in instructions}
    if wanted > MOST_ROUNDS * len(different):
        raise ValueError(
            f"a general share of {share} of {len(records)} records needs {wanted} instructions, "
            f"there are {len(different)}; add some or lower the share"
        )
    drawn = sorted(different, key=lambda name: _lot(seed, "choose", name))
    chosen = list(itertools.islice(itertools.cycle(drawn), wanted))
    ask = render_general or render
    general = [
        ChatRow(name, "general", *ask(different[name].instruction, different[name].response))
        for name in chosen
    ]
    columns = (records["record_id"], records["input"], records["output"])
    domain = [
        ChatRow(record_id, "domain", *render(text, output))
        for record_id, text, output in zip(*columns, strict=True)
    ]
    rows = [*domain, *general]
    return sorted(rows, key=lambda row: (_lot(seed, row.origin, row.record_id), row.prompt))


def _lot(seed: int, *parts: str) -> str:
    return hashlib.sha256("\n".join([str(seed), *parts]).encode()).hexdigest()
