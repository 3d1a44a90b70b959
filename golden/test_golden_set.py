"""The tests of ``pytest golden``: one an example, one a gate; see `golden.pytest_plugin`."""

import pytest

from golden.pytest_plugin import Sitting
from golden.standard_gates import Gate


def test_example(
    golden_sitting: Sitting, golden_example: str, request: pytest.FixtureRequest
) -> None:
    """The example is answered right."""
    row = golden_sitting.row(golden_example)
    if row["correct"]:
        return
    why = row.get("problem") or "; ".join(row.get("problems", ()))
    reason = f"{golden_example}: expected {row['expected']!r}, answered {row['predicted']!r}"
    reason += f" ({why})" if why else ""
    if request.config.getoption("wrong_answers") == "xfail":
        pytest.xfail(reason)
    pytest.fail(reason, pytrace=False)


def test_gate(golden_sitting: Sitting, golden_gate: Gate) -> None:
    """The scores pass the gate."""
    judged = golden_sitting.judge(golden_gate)
    if not judged.passed:
        pytest.fail(f"{golden_gate.name}: {judged.reason}", pytrace=False)
