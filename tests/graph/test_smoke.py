"""The smoke test asks what the evaluation found answered right, and always ten examples."""

from ftdm_assets.graph.release import SMOKE_EXAMPLES, smoke_examples
from golden.examples import Example

EXAMPLES = [Example(f"g{number:02d}", "text", "label", "") for number in range(30)]


def _scores(right: set[str]) -> dict[str, object]:
    rows = [{"example_id": one.example_id, "correct": one.example_id in right} for one in EXAMPLES]
    return {"task": {"per_example": rows}}


def test_it_takes_what_was_answered_right() -> None:
    right = {f"g{number:02d}" for number in range(12, 28)}
    taken = [one.example_id for one in smoke_examples(EXAMPLES, _scores(right))]
    assert taken == [f"g{number}" for number in range(12, 12 + SMOKE_EXAMPLES)]


def test_it_fills_up_with_others() -> None:
    taken = [one.example_id for one in smoke_examples(EXAMPLES, _scores({"g20", "g05"}))]
    assert taken[:3] == ["g05", "g20", "g00"]
    assert len(taken) == SMOKE_EXAMPLES
