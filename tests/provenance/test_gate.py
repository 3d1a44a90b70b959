"""The gate: what cannot be shown to have passed has not passed."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.provenance.gate import Decision, Requirement, decide
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.provenance.statements import Verdict
from tests.provenance.samples import manifest, verdict

ADAPTER, GOLDEN = "a" * 64, "b" * 64
NODES = [
    Node("m1", manifest("adapter", ADAPTER, inputs={"golden_set": GOLDEN}), 0),
    Node("m2", manifest("golden_set", GOLDEN), 1),
]


def decision(verdicts: list[Verdict], **known: str) -> Decision:
    requirements = [Requirement("adapter", "good", {"minimum": 1})]
    return decide(NODES, requirements, {("adapter", ADAPTER): verdicts}, known)


def good(**changes: object) -> Verdict:
    return verdict("adapter", ADAPTER, threshold={"minimum": 1}, **changes)  # type: ignore[arg-type]


def test_a_passed_verdict_on_the_digest_allows() -> None:
    assert decision([good()]).allowed


def test_no_verdict_refuses() -> None:
    made = decision([])
    assert not made.allowed
    assert made.refusals[0].state == "missing"


def test_the_latest_verdict_counts() -> None:
    assert not decision([good(), good(passed=False)]).allowed
    assert decision([good(passed=False), good()]).allowed


def test_a_verdict_on_another_digest_does_not_count() -> None:
    other = verdict("adapter", "c" * 64, threshold={"minimum": 1})
    assert decision([other]).refusals[0].state == "missing"


def test_a_verdict_by_another_threshold_is_stale() -> None:
    made = decision([verdict("adapter", ADAPTER, threshold={"minimum": 0.5})])
    assert made.refusals[0].state == "stale"
    assert "in force is {'minimum': 1}" in made.refusals[0].reason


def test_a_verdict_against_another_golden_set_is_stale() -> None:
    assert decision([good(against={"golden_set": GOLDEN})]).allowed
    assert decision([good(against={"golden_set": "d" * 64})]).refusals[0].state == "stale"


def test_a_verdict_against_another_production_is_stale() -> None:
    made = decision([good(against={"production": "1" * 64})], production="2" * 64)
    assert made.refusals[0].state == "stale"
    assert decision([good(against={"production": "2" * 64})], production="2" * 64).allowed


def test_that_nothing_was_in_production_holds_until_something_is() -> None:
    assert decision([good(against={"production": ""})]).allowed
    (refused,) = decision([good(against={"production": ""})], production="2" * 64).refusals
    assert (refused.state, refused.digest) == ("stale", ADAPTER)
    assert "another production (none)" in refused.reason


def test_of_two_in_the_lineage_the_nearest_counts() -> None:
    older, newer = "c" * 64, "d" * 64
    requirements = [Requirement("eval_scores", "good", {})]
    nodes = [
        Node("e", manifest("eval_scores", ADAPTER), 0),
        Node("o", manifest("merged_model", older), 1),
        Node("n", manifest("merged_model", newer), 0),
    ]

    def allowed(judged: str) -> bool:
        made = verdict("eval_scores", ADAPTER, against={"merged_model": judged})
        return decide(nodes, requirements, {("eval_scores", ADAPTER): [made]}).allowed

    assert allowed(newer)
    assert not allowed(older)


def test_todays_golden_set_counts_whatever_the_lineage_holds() -> None:
    made = [good(against={"golden_set": GOLDEN})]
    assert decision(made, golden_set=GOLDEN).allowed
    assert decision(made, golden_set="d" * 64).refusals[0].state == "stale"


def test_a_later_pass_against_another_artifact_leaves_the_one_that_counts() -> None:
    this, other = {"golden_set": GOLDEN}, {"golden_set": "d" * 64}
    passed, elsewhere = good(against=this), good(against=other)
    assert decision([passed, elsewhere]).allowed
    assert decision([elsewhere, passed, elsewhere, elsewhere]).allowed
    assert decision([elsewhere]).refusals[0].state == "stale"


def test_what_failed_refuses_whatever_passed_before_or_against_another() -> None:
    this, other = {"golden_set": GOLDEN}, {"golden_set": "d" * 64}
    passed, failed = good(against=this), good(against=this, passed=False)
    assert decision([passed, good(against=other, passed=False)]).refusals[0].state == "stale"
    (refused,) = decision([passed, failed, good(against=other)]).refusals
    assert refused.state == "failed"
    assert decision([failed, passed, good(against=other)]).allowed


def test_a_verdict_that_was_judged_against_less_or_by_an_older_check_does_not_count_again() -> None:
    wider = good(against={"golden_set": "d" * 64, "production": ""})
    assert decision([good(against={"golden_set": GOLDEN}), wider]).refusals[0].state == "stale"
    whole = {"golden_set": GOLDEN, "production": ""}
    assert decision([good(against=whole), wider]).allowed
    older = replace(good(against=whole), code_version="0")
    assert decision([older, wider]).refusals[0].state == "stale"


def test_a_verdict_that_counts_again_must_keep_todays_threshold_and_evidence() -> None:
    def refused(first: Verdict, evidence: str) -> bool:
        last = good(against={"golden_set": "d" * 64, "evidence": evidence})
        requirements = [Requirement("adapter", "good", {"minimum": 1})]
        rests_on = {("adapter", "good", ADAPTER): "e2"}
        verdicts = {("adapter", ADAPTER): [first, last]}
        return not decide(NODES, requirements, verdicts, {}, rests_on).allowed

    this = {"golden_set": GOLDEN}
    assert not refused(good(against={**this, "evidence": "e2"}), "e2")
    assert refused(good(against={**this, "evidence": "e1"}), "e2")
    loose = verdict(
        "adapter", ADAPTER, threshold={"minimum": 0.5}, against={**this, "evidence": "e2"}
    )
    assert refused(loose, "e2")


def test_a_verdict_on_other_evidence_is_stale() -> None:
    def state(verdict: Verdict, evidence: str) -> str:
        requirements = [Requirement("adapter", "good", {"minimum": 1})]
        rests_on = {("adapter", "good", ADAPTER): evidence}
        found = decide(NODES, requirements, {("adapter", ADAPTER): [verdict]}, {}, rests_on)
        return found.findings[0].state

    signed = good(against={"evidence": "e1"})
    assert state(signed, "e1") == "passed"
    assert state(signed, "e2") == "stale"
    assert state(good(), "e1") == "stale"


def test_an_asset_that_the_lineage_lacks_refuses() -> None:
    made = decide(NODES, [Requirement("eval_scores", "target", {})], {})
    assert "the lineage holds no eval_scores" in made.refusals[0].reason


def test_a_warning_never_refuses() -> None:
    requirements = [Requirement("adapter", "fresh", {}, severity="warn")]
    assert decide(NODES, requirements, {}).allowed


@given(st.lists(st.sampled_from(["pass", "fail", "stale", "other"]), max_size=8))
def test_only_a_last_current_pass_allows(history: list[str]) -> None:
    made = {
        "pass": good(),
        "fail": good(passed=False),
        "stale": verdict("adapter", ADAPTER, threshold={"minimum": 2}),
        "other": verdict("adapter", ADAPTER, check="another", threshold={"minimum": 1}),
    }
    mine = [state for state in history if state != "other"]
    allowed = bool(mine) and mine[-1] == "pass"
    assert decision([made[state] for state in history]).allowed == allowed
