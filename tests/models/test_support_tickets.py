"""The shipped tickets: complete, reproducible, and dirty only where the key says so."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from scipy import sparse

from ftdm_assets.made_data.drafts import read_jsonl
from ftdm_assets.made_data.edits import comparison_key, reworded, similarity, trigrams
from ftdm_assets.models.support_tickets import make_tickets, ticket_dirt
from ftdm_assets.models.support_tickets.ticket_parts import HERE, load_parts, stream
from ftdm_assets.models.support_tickets.ticket_text import fill
from tests.models.injected import check_injected

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def tickets() -> Rows:
    return read_jsonl(HERE / "tickets.jsonl")


@pytest.fixture(scope="module")
def key() -> Rows:
    return read_jsonl(HERE / "dirt_key.jsonl")


@pytest.fixture(scope="module")
def golden() -> Rows:
    return read_jsonl(HERE / "golden.jsonl")


@pytest.fixture(scope="module")
def taxonomy() -> list[str]:
    return list(yaml.safe_load((HERE / "taxonomy.yaml").read_text(encoding="utf-8")))


def _of_kind(key: Rows, kind: str) -> Rows:
    return [row for row in key if row["kind"] == kind]


def _by_id(tickets: Rows) -> dict[str, dict[str, str]]:
    return {row["record_id"]: row for row in tickets}


def _clean(tickets: Rows, key: Rows) -> Rows:
    """The rows that a perfect cleaning keeps, the masked ones among them."""
    dropped = {row["record_id"] for row in key if row["expected"] == "dropped"}
    return [row for row in tickets if row["record_id"] not in dropped]


def _similarities(one: list[str], other: list[str]) -> NDArray[np.float64]:
    """Jaccard similarity of the character 3-grams of every pair, shape (one, other)."""
    grams: dict[str, int] = {}
    for text in one + other:
        for gram in trigrams(text):
            grams.setdefault(gram, len(grams))

    def matrix(texts: list[str]) -> sparse.csr_matrix:
        columns = [sorted(grams[gram] for gram in trigrams(text)) for text in texts]
        starts = np.cumsum([0, *map(len, columns)])
        flat = np.concatenate([np.array(c, dtype=np.int64) for c in columns])
        values = np.ones(len(flat), dtype=np.float32)
        return sparse.csr_matrix((values, flat, starts), shape=(len(texts), len(grams)))

    a, b = matrix(one), matrix(other)
    both = (a @ b.T).toarray()
    sizes_a, sizes_b = np.asarray(a.sum(axis=1)), np.asarray(b.sum(axis=1)).T
    return np.asarray(both / (sizes_a + sizes_b - both))


def test_shipped_files_are_what_the_generator_makes() -> None:
    made = make_tickets.make()
    assert set(made) == {"tickets.jsonl", "dirt_key.jsonl"}
    for name, text in made.items():
        assert (HERE / name).read_bytes() == text.encode(), f"{name} is stale: run make_tickets"


def test_parts_follow_the_taxonomy(taxonomy: list[str]) -> None:
    parts = load_parts()
    assert list(parts.cores) == taxonomy
    assert min(map(len, parts.cores.values())) >= 30
    slots = {s for cores in parts.cores.values() for c in cores for s in re.findall(r"{(.*?)}", c)}
    assert slots == set(parts.slots)
    neighbours = parts.shared["neighbours"]
    assert list(neighbours) == taxonomy
    assert all(near and set(near) < set(taxonomy) - {c} for c, near in neighbours.items())


def test_tickets_are_raw_annotations(tickets: Rows, taxonomy: list[str]) -> None:
    fields = ["record_id", "input", "output", "annotator", "annotated_at", "source", "data_class"]
    assert all(list(row) == fields for row in tickets)
    assert [row["record_id"] for row in tickets] == [
        f"T-{number:05d}" for number in range(1, len(tickets) + 1)
    ]
    assert {row["output"] for row in tickets} == set(taxonomy)
    assert len({row["annotator"] for row in tickets}) >= 3
    times = [row["annotated_at"] for row in tickets]
    assert all(re.fullmatch(r"2026-(08|09|10)-\d\dT\d\d:\d\d:\d\dZ", time) for time in times)
    assert times == sorted(times)
    assert {(row["source"], row["data_class"]) for row in tickets} == {
        ("helpdesk-export", "internal")
    }
    assert not any("{" in row["input"] or "}" in row["input"] for row in tickets)


def test_every_core_is_one_ticket_and_no_category_is_thin(tickets: Rows, key: Rows) -> None:
    parts = load_parts()
    cores = sum(map(len, parts.cores.values()))
    changed = {"personal_data", "wrong_label", "hidden_instruction"}
    extra = [row for row in key if row["kind"] not in changed]
    assert len(tickets) - len(extra) == cores
    kept = Counter(row["output"] for row in _clean(tickets, key))
    assert min(kept.values()) >= 25


def test_key_counts_and_references(tickets: Rows, key: Rows, golden: Rows) -> None:
    counts = Counter(row["kind"] for row in key)
    planted = dict(ticket_dirt.COUNTS, conflict=2 * ticket_dirt.COUNTS["conflict"])
    assert {kind: n for kind, n in counts.items() if kind != "overlap"} == {
        kind: n for kind, n in planted.items() if kind != "overlap"
    }
    assert len({row["related"] for row in _of_kind(key, "overlap")}) == planted["overlap"]
    assert len({row["record_id"] for row in key}) == len(key)
    known = {row["record_id"] for row in tickets} | {row["example_id"] for row in golden}
    assert {row["record_id"] for row in key} <= known
    assert {row["related"] for row in key if row["related"]} <= known
    for row in key:
        expected = {"personal_data": "masked", "hidden_instruction": "kept"}
        assert row["expected"] == expected.get(row["kind"], "dropped")


def test_originals_come_before_their_copies_and_carry_no_other_dirt(key: Rows) -> None:
    dirty = {row["record_id"] for row in key}
    for kind in ("exact_duplicate", "near_duplicate", "overlap"):
        for row in _of_kind(key, kind):
            assert row["related"] < row["record_id"]
            assert row["related"] not in dirty


def test_duplicates_are_what_they_are_called(tickets: Rows, key: Rows) -> None:
    by_id = _by_id(tickets)
    for row in _of_kind(key, "exact_duplicate"):
        copy, original = by_id[row["record_id"]], by_id[row["related"]]
        assert copy["input"] != original["input"]
        assert comparison_key(copy["input"]) == comparison_key(original["input"])
        assert (copy["annotator"], copy["output"]) == (original["annotator"], original["output"])
    for row in _of_kind(key, "near_duplicate"):
        copy, original = by_id[row["record_id"]], by_id[row["related"]]
        assert comparison_key(copy["input"]) != comparison_key(original["input"])
        assert similarity(copy["input"], original["input"]) >= 0.85
        assert copy["output"] == original["output"]


def test_conflicts_have_no_majority(tickets: Rows, key: Rows) -> None:
    by_id = _by_id(tickets)
    for row in _of_kind(key, "conflict"):
        one, other = by_id[row["record_id"]], by_id[row["related"]]
        assert one["input"] == other["input"]
        assert one["output"] != other["output"]
        assert one["annotator"] != other["annotator"]


def test_overlaps_agree_but_for_a_few_outvoted_rows(tickets: Rows, key: Rows) -> None:
    by_id = _by_id(tickets)
    labels: dict[str, list[str]] = {}
    annotators: dict[str, list[str]] = {}
    for row in _of_kind(key, "overlap"):
        base = by_id[row["related"]]
        labels.setdefault(row["related"], [base["output"]])
        annotators.setdefault(row["related"], [base["annotator"]])
        assert by_id[row["record_id"]]["input"] == base["input"]
        labels[row["related"]].append(by_id[row["record_id"]]["output"])
        annotators[row["related"]].append(by_id[row["record_id"]]["annotator"])
    assert all(len(set(names)) == len(names) for names in annotators.values())
    disputed = [given for given in labels.values() if len(set(given)) > 1]
    assert 0.03 <= len(disputed) / len(labels) <= 0.07
    assert all(Counter(given).most_common()[0] == (given[0], 2) for given in disputed)


def test_wrong_labels_are_clearly_wrong(tickets: Rows, key: Rows) -> None:
    by_id, neighbours = _by_id(tickets), load_parts().shared["neighbours"]
    for row in _of_kind(key, "wrong_label"):
        right = row["detail"].removeprefix("right label: ")
        given = by_id[row["record_id"]]["output"]
        assert given != right
        assert given not in neighbours[right]


def test_hidden_instructions_are_in_their_tickets_and_not_obeyed(tickets: Rows, key: Rows) -> None:
    by_id, injected = _by_id(tickets), read_jsonl(HERE / "injected.jsonl")
    planted = _of_kind(key, "hidden_instruction")
    kinds = {row["detail"].partition(": ")[0] for row in planted}
    assert kinds == set(load_parts().shared["hidden_instructions"])
    for row in planted:
        ticket, (kind, _, other) = by_id[row["record_id"]], row["detail"].partition(": ")
        assert ticket["output"] != other
        assert other in ticket["input"] or kind == "encoded"
    # What is trained on is not what is measured: no wording of the check is among them.
    texts = [by_id[row["record_id"]]["input"] for row in planted]
    assert _similarities(texts, [row["input"] for row in injected]).max() < 0.5
    assert {row["attack"] for row in injected} - kinds >= {"threat", "bribe", "examples", "format"}


def test_empty_long_and_personal_rows(tickets: Rows, key: Rows) -> None:
    by_id = _by_id(tickets)
    assert not any(by_id[row["record_id"]]["input"].strip() for row in _of_kind(key, "empty"))
    long_rows = {row["record_id"] for row in _of_kind(key, "too_long")}
    assert {row["record_id"] for row in tickets if len(row["input"]) > 4000} == long_rows
    values = load_parts().shared["personal_values"]
    kinds = {
        row["record_id"]: ",".join(
            kind.upper() for kind in sorted(values) if any(v in row["input"] for v in values[kind])
        )
        for row in tickets
    }
    planted = {row["record_id"]: row["detail"] for row in _of_kind(key, "personal_data")}
    assert {record: found for record, found in kinds.items() if found} == planted


def test_no_personal_data_that_could_be_somebody_s(tickets: Rows, golden: Rows) -> None:
    for row in tickets + golden:
        for domain in re.findall(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)", row["input"]):
            assert re.search(r"(^|\.)example\.(org|com|net)$", domain)


def test_clean_tickets_are_no_duplicates_of_each_other(tickets: Rows, key: Rows) -> None:
    texts = [row["input"] for row in _clean(tickets, key)]
    wrong = {row["record_id"] for row in _of_kind(key, "wrong_label")}
    texts += [row["input"] for row in tickets if row["record_id"] in wrong]
    found = _similarities(texts, texts)
    np.fill_diagonal(found, 0)
    assert found.max() < 0.75


def test_only_the_planted_leaks_are_near_golden(tickets: Rows, key: Rows, golden: Rows) -> None:
    leaks = {row["record_id"]: row["related"] for row in _of_kind(key, "golden_leak")}
    other = [row["input"] for row in tickets if row["record_id"] not in leaks]
    other = [text for text in other if text.strip()]
    assert _similarities(other, [row["input"] for row in golden]).max() < 0.7
    by_id = _by_id(tickets)
    examples = {row["example_id"]: row for row in golden}
    for record, example in leaks.items():
        assert similarity(by_id[record]["input"], examples[example]["input"]) >= 0.85
        assert by_id[record]["output"] == examples[example]["output"]


def test_no_core_is_copied_from_the_golden_set(golden: Rows) -> None:
    cores = [core for cores in load_parts().cores.values() for core in cores]
    assert _similarities(cores, [row["input"] for row in golden]).max() < 0.7


def test_golden_set(golden: Rows, taxonomy: list[str]) -> None:
    assert 200 <= len(golden) <= 500
    assert len({row["example_id"] for row in golden}) == len(golden)
    assert set(Counter(row["output"] for row in golden).values()) == {8}
    assert {row["output"] for row in golden} == set(taxonomy)
    assert all(row["verified_by"] for row in golden)
    found = _similarities([row["input"] for row in golden], [row["input"] for row in golden])
    np.fill_diagonal(found, 0)
    assert found.max() < 0.75


def test_injected_inputs(tickets: Rows, golden: Rows, taxonomy: list[str]) -> None:
    check_injected(HERE, [row["input"] for row in tickets + golden])
    assert {row["output"] for row in read_jsonl(HERE / "injected.jsonl")} == set(taxonomy)


def test_a_slot_after_a_takes_the_right_article() -> None:
    slots = {"device": ["Ember"], "room": ["kitchen"]}
    assert fill("a {device} in a {room}", slots, stream("test")) == "an Ember in a kitchen"


def test_a_text_too_short_to_reword_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a longer one"):
        reworded("Wrong item received", load_parts().rewording, 0.86, stream("test"))


def test_output_does_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_tickets.make()["dirt_key.jsonl"] == (HERE / "dirt_key.jsonl").read_text("utf-8")
