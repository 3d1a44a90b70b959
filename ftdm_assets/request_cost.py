"""What a thousand requests cost: by the tokens that they took, or by the machine that answered.

Invariant: no price, no cost; and an hour's price is used for the machine that it is stated of only.
"""

from dataclasses import dataclass

from ftdm_assets.baseline_settings import TokenPriceSettings
from ftdm_assets.compute_settings import ComputeSettings
from golden.completion import Usage
from golden.pace import Pace


@dataclass(frozen=True)
class Cost:
    """The cost of a thousand requests."""

    amount: float
    currency: str

    def __str__(self) -> str:
        """Return it as a person reads it."""
        amount = f"{self.amount:.2f}" if self.amount >= 1 else f"{self.amount:.3g}"
        return f"{amount} {self.currency}"


def token_cost(usage: Usage | None, price: TokenPriceSettings | None) -> Cost | None:
    """Return the cost by tokens; None without a price, or where the tokens are not known."""
    if usage is None or price is None:
        return None
    a_million_requests = (
        usage.input_tokens * price.per_million_input_tokens
        + usage.output_tokens * price.per_million_output_tokens
    )
    return Cost(a_million_requests / 1000, price.currency)


def machine_cost(pace: Pace, compute: ComputeSettings) -> Cost | None:
    """Return the cost on this machine, kept as busy as while it was measured.

    `compute.price` is that of the machine that trains: with another `compute.kind` it is not this
    one, where predictions are made.
    """
    if compute.price is None or compute.kind != "local":
        return None
    hours = 1000 / pace.per_second / 3600
    return Cost(hours * compute.price.per_hour, compute.price.currency)
