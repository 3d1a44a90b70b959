"""Which replica of a version a request goes to: of those in rotation, the one with the fewest.

The gateway does this itself, and no router stands between it and the replicas. What was compared
(all well kept, all Rust, some 0.3 ms each): smg, vllm-router and sglang-router read a request into
types of their own and write it anew. smg refused prompts of token ids, which vLLM takes, and
answered 11 of 14 requests that vLLM refuses with errors of its own; vllm-router adds a dozen fields
to each. None asks a replica who it is; smg left out a hung one after 5.0 s. `serving.rotation` has
to know all that a router knows, and which replica gave which answer: it is the harder half.

Least requests, not prefix affinity: all prompts of one model begin alike, so affinity would send
every request to the same replica. Several gateways each count their own requests, which spreads
them just as well.
"""

from collections import Counter
from collections.abc import Collection, Sequence


class Balance:
    """The requests at work, by the address of the replica that has them."""

    def __init__(self) -> None:
        self._at_work: Counter[str] = Counter()
        self._turn = 0

    def take(self, urls: Sequence[str], tried: Collection[str] = ()) -> str | None:
        """Choose a replica and count one more request at it; None where there is none.

        Args:
            urls: The addresses that may be chosen.
            tried: Those that have failed for this request: chosen only if there is no other.
        """
        fit = [one for one in urls if one not in tried] or list(urls)
        if not fit:
            return None
        # Of equals another each time.
        self._turn += 1
        start = self._turn % len(fit)
        url = min(fit[start:] + fit[:start], key=lambda one: self._at_work[one])
        self._at_work[url] += 1
        return url

    def give_back(self, url: str) -> None:
        """Count one request less at a replica."""
        self._at_work[url] -= 1
        if self._at_work[url] <= 0:
            del self._at_work[url]
