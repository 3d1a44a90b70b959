"""The outcome of a reproduction: digests first, then scores. Pure functions."""

from collections.abc import Mapping
from typing import Any

from ftdm_assets.provenance.reproduction import ReproductionOutcome
from golden.statistics import wilson_interval

_SHOWN = 8


def compare_scores(
    then_correct: int, then_total: int, now_correct: int, now_total: int
) -> dict[str, Any]:
    """Return both accuracies and whether that of now lies in the 95 % interval of then."""
    interval = wilson_interval(then_correct, then_total)
    accuracy = now_correct / now_total
    return {
        "recorded": {"correct": then_correct, "total": then_total},
        "now": {"correct": now_correct, "total": now_total},
        "low": interval.low,
        "high": interval.high,
        "agree": interval.low <= accuracy <= interval.high,
    }


def judge(
    recorded: Mapping[str, str],
    made: Mapping[str, str],
    scores: Mapping[str, Any],
    differences: list[dict[str, Any]],
    problem: str,
) -> tuple[ReproductionOutcome, str]:
    """Return the outcome and one sentence that says how it was found."""
    told = _told(scores, problem)
    other = [asset for asset, digest in recorded.items() if made[asset] != digest]
    if not other:
        count = f"{len(differences)} {'entry' if len(differences) == 1 else 'entries'}"
        beside = f", with {count} of the environment different"
        first = f"reproduced, bit for bit{beside if differences else ''}"
        return "bit_for_bit", "; ".join([first, *told])
    names = " and ".join(other)
    parts = [f"{names} came out with other digests", _environment_told(differences), *told]
    if scores.get("agree"):
        return "same_scores", "; ".join(["reproduced by its scores", *parts])
    return "not_reproduced", "; ".join(["not reproduced", *parts])


def _environment_told(differences: list[dict[str, Any]]) -> str:
    if not differences:
        return (
            "no entry of the environment differs, so the recorded settings are not those that made "
            "it, or its training is not deterministic"
        )
    shown = [f"{one['entry']} {one['recorded']} → {one['now']}" for one in differences[:_SHOWN]]
    more = len(differences) - len(shown)
    return f"different now: {', '.join(shown)}{f' and {more} more' if more else ''}"


def _told(scores: Mapping[str, Any], problem: str) -> list[str]:
    if problem:
        return [f"the scores could not be compared: {problem}"]
    if not scores:
        return []
    then, new = scores["recorded"], scores["now"]
    where = "within" if scores["agree"] else "outside"
    return [
        f"{new['correct']} of {new['total']} right, recorded {then['correct']} of "
        f"{then['total']}: {where} its interval ({scores['low']:.1%} to {scores['high']:.1%})"
    ]
