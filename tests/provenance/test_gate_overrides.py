"""Overrides: only a signed, current one for this check on this digest lifts a refusal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdm_assets.commands.trace import trace_document
from ftdm_assets.provenance.gate import Decision, Requirement, decide, gate_table
from ftdm_assets.provenance.keys import LocalKey
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.provenance.overrides import (
    Override,
    SignedOverride,
    add_override,
    overrides,
)
from ftdm_assets.provenance.seal import decision_statement
from ftdm_assets.provenance.store import ArtifactStore
from ftdm_assets.provenance.trust import Trust
from tests.provenance.samples import manifest, verdict
from tests.provenance.sealed import VERSION, sealed

DIGEST = "a" * 64
NODE = Node("m1", manifest("eval_scores", DIGEST), 0)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD = Override(
    "eval_scores", "demo", DIGEST, "good", "jane", "root", "the golden set has a wrong label",
    NOW.isoformat(), (NOW + timedelta(days=7)).isoformat(),
)  # fmt: skip


def decision(
    *stated: SignedOverride, at: datetime = NOW, state: str = "failed", overridable: bool = True
) -> Decision:
    verdicts = {"failed": [verdict("eval_scores", DIGEST, passed=False)], "missing": []}
    return decide(
        [NODE],
        [Requirement("eval_scores", "good", {}, overridable=overridable)],
        {("eval_scores", DIGEST): verdicts[state]},
        overrides=stated,
        at=at.isoformat(),
    )


@pytest.mark.parametrize("state", ["failed", "missing"])
def test_an_override_lifts_the_refusal_and_says_so(state: str) -> None:
    made = decision(SignedOverride(GOOD, "k"), state=state)
    (found,) = made.findings
    assert made.allowed
    assert found.state == "overridden"
    assert found.reason.startswith(f"{state}: ")
    assert "overridden by jane until 2026-12-01T12:00:00+00:00: the golden set" in found.reason
    assert found.override == GOOD
    assert "| eval_scores.good | `aaaaaaaaaaaa` | overridden | " in gate_table(made.findings)
    signed = decision_statement(NODE, made)["predicate"]["findings"][0]["override"]
    assert signed["predicate"]["by"] == "jane"


def test_an_expired_override_is_refused_by_check_and_digest() -> None:
    made = decision(SignedOverride(GOOD, "k"), at=NOW + timedelta(days=7))
    (found,) = made.refusals
    assert (found.check, found.digest, found.state) == ("good", DIGEST, "failed")
    assert "the override by jane expired on 2026-12-01" in found.reason


def test_a_check_of_integrity_cannot_be_overridden() -> None:
    made = decision(SignedOverride(GOOD, "k"), overridable=False)
    assert "cannot be overridden" in made.refusals[0].reason


def test_the_newest_that_counts_lifts() -> None:
    ended = replace(GOOD, until=NOW.isoformat())
    assert decision(SignedOverride(GOOD, "k"), SignedOverride(ended, "k")).allowed


BAD = st.one_of(
    st.timedeltas(timedelta(0), timedelta(days=4000)).map(
        lambda gone: SignedOverride(replace(GOOD, until=(NOW - gone).isoformat()), "k")
    ),
    st.text("0123456789abcdef", min_size=64, max_size=64)
    .filter(lambda digest: digest != DIGEST)
    .map(lambda digest: SignedOverride(replace(GOOD, digest=digest), "k")),
    st.text(max_size=8)
    .filter(lambda check: check != "good")
    .map(lambda check: SignedOverride(replace(GOOD, check=check), "k")),
    st.sampled_from(["adapter", "", "eval_score"]).map(
        lambda asset: SignedOverride(replace(GOOD, asset=asset), "k")
    ),
    st.text(min_size=1, max_size=20).map(lambda problem: SignedOverride(GOOD, "k", problem)),
)


@given(st.lists(BAD, max_size=5), st.sampled_from(["failed", "missing"]))
def test_what_is_expired_or_of_another_digest_check_or_key_never_allows(
    stated: list[SignedOverride], state: str
) -> None:
    assert not decision(*stated, state=state).allowed


@given(st.lists(BAD, max_size=4), st.integers(0, 4))
def test_beside_others_one_good_override_is_enough(
    stated: list[SignedOverride], place: int
) -> None:
    stated.insert(place, SignedOverride(GOOD, "k"))
    assert decision(*stated).allowed


def test_overrides_in_the_store_count_by_key_and_bytes(tmp_path: Path) -> None:
    store, key, stranger = ArtifactStore(tmp_path), LocalKey.new(), LocalKey.new()
    trust = Trust({key.public.key_id: key.public}, {})

    def found(trusted: Trust = trust) -> list[SignedOverride]:
        return overrides(store, "demo", "eval_scores", DIGEST, trusted)

    add_override(store, GOOD, stranger)
    assert "is not trusted here" in found()[0].problem
    assert not decision(*found()).allowed
    name = add_override(store, GOOD, key)
    assert decision(*found()).allowed
    revoked = Trust(trust.keys, {key.public.key_id: "lost"})
    assert not decision(*found(revoked)).allowed
    # Under another artifact's digest, the same signed bytes count for nothing.
    folder = store.root / "overrides" / "demo" / "eval_scores"
    (folder / ("b" * 64)).mkdir()
    (folder / ("b" * 64) / f"{name}.json").write_bytes(
        (folder / DIGEST / f"{name}.json").read_bytes()
    )
    (moved,) = overrides(store, "demo", "eval_scores", "b" * 64, trust)
    assert "it was made for demo/eval_scores aaaaaaaaaaaa" in moved.problem


@given(st.data())
def test_a_changed_override_lifts_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store, key = ArtifactStore(tmp_path_factory.mktemp("store")), LocalKey.new()
    trust = Trust({key.public.key_id: key.public}, {})
    add_override(store, GOOD, key)
    (path,) = (store.root / "overrides").rglob("*.json")
    content = bytearray(path.read_bytes())
    # A signature's length differs from one to the next; what is drawn may not.
    content[data.draw(st.integers(0, 10**6)) % len(content)] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    (stated,) = overrides(store, "demo", "eval_scores", DIGEST, trust)
    assert stated.problem
    assert not decision(stated).allowed


def test_every_trace_shows_it_even_when_it_has_ended(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    digest = next(n.manifest.digest for n in made.nodes if n.asset == "eval_scores")
    ended = replace(GOOD, digest=digest, until="2026-11-25T00:00:00+00:00")
    add_override(made.store, ended, made.key)
    document = trace_document(made.store, VERSION, made.trust)
    nodes = {node["asset"]: node for node in document["ancestors"]}
    (shown,) = nodes["eval_scores"]["overrides"]
    assert (shown["by"], shown["check"], shown["reason"]) == ("jane", "good", GOOD.reason)
    assert shown["key"] == made.key.public.key_id
    assert document["signature"]["key"] == made.key.public.key_id
