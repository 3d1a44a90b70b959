"""What an answer says that it can only have from other examples: their words, given out again.

Invariants:
* Only runs of words that stand in another example's input and not in the answer's own count, so an
  answer may quote what it was asked.
"""

from collections.abc import Mapping, Sequence

from golden.examples import Example

# Shorter runs are common turns of phrase: "thank you for your help with this".
RUN = 8


def echoes(examples: Sequence[Example], answers: Mapping[str, str | None]) -> dict[str, str]:
    """Return, by the id of an answered example, the example whose words its answer gives out.

    Args:
        examples: whose inputs must not come out, and whose answers are looked at.
        answers: answers by example id; those of other ids are passed over.
    """
    owner: dict[tuple[str, ...], str] = {}
    own: dict[str, set[tuple[str, ...]]] = {}
    for example in examples:
        own[example.example_id] = runs = set(_runs(example.input))
        for run in runs:
            owner.setdefault(run, example.example_id)
    found = {}
    for example in examples:
        said = _runs(answers.get(example.example_id) or "")
        strange = next((r for r in said if r in owner and r not in own[example.example_id]), None)
        if strange is not None:
            found[example.example_id] = owner[strange]
    return found


def _runs(text: str) -> list[tuple[str, ...]]:
    words = text.casefold().split()
    return [tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)]
