"""The shipped orders: complete, reproducible, valid and decidable but where the key says so."""

import json
import re
from collections import Counter

import pytest
import rfc8785
from jsonschema import Draft202012Validator

from ftdm_assets.made_data.drafts import read_jsonl
from ftdm_assets.made_data.edits import comparison_key, similarity
from ftdm_assets.made_data.personal_values import personal_values
from ftdm_assets.models.order_extraction import make_orders
from ftdm_assets.models.order_extraction.order_dirt import COUNTS
from ftdm_assets.models.order_extraction.order_parts import HERE, load_parts
from ftdm_assets.records import personal_data
from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.contract import contract_problems
from ftdm_assets.records.duplicates import contaminated, near_pairs
from ftdm_assets.sources.files import read_records
from golden.examples import read_examples
from tests.models.injected import check_injected
from tests.models.order_rules import DECLINED, EXPRESS, undecidable

Rows = list[dict[str, str]]

SCHEMA = json.loads((HERE / "schema.json").read_text(encoding="utf-8"))
UNITS = SCHEMA["properties"]["lines"]["items"]["properties"]["unit"]["enum"]
INVALID = {"invalid_json", "schema_breach"}


@pytest.fixture(scope="module")
def orders() -> Rows:
    return read_jsonl(HERE / "orders.jsonl")


@pytest.fixture(scope="module")
def key() -> Rows:
    return read_jsonl(HERE / "dirt_key.jsonl")


@pytest.fixture(scope="module")
def golden() -> Rows:
    return read_jsonl(HERE / "golden.jsonl")


def _of_kind(key: Rows, kind: str) -> Rows:
    return [row for row in key if row["kind"] == kind]


def _by_id(orders: Rows) -> dict[str, dict[str, str]]:
    return {row["record_id"]: row for row in orders}


def _right(orders: Rows, key: Rows) -> Rows:
    """The rows whose label is right and written canonically."""
    dirty = {row["record_id"] for row in key if row["kind"] != "personal_data"}
    return [row for row in orders if row["record_id"] not in dirty]


def _is_valid(text: str) -> bool:
    try:
        return bool(Draft202012Validator(SCHEMA).is_valid(json.loads(text)))
    except ValueError:
        return False


def test_shipped_files_are_what_the_generator_makes() -> None:
    made = make_orders.make()
    assert set(made) == {"orders.jsonl", "dirt_key.jsonl"}
    for name, text in made.items():
        assert (HERE / name).read_bytes() == text.encode(), f"{name} is stale: run make_orders"


def test_schema_is_one_and_its_keys_are_in_canonical_order() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    line = SCHEMA["properties"]["lines"]["items"]
    for part in (SCHEMA, line):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"]) == sorted(part["properties"])
    assert sorted(UNITS) == UNITS == list(load_parts().catalogue["units"])


def test_orders_are_raw_annotations(orders: Rows) -> None:
    frame = read_records(HERE / "orders.jsonl")
    assert contract_problems(frame) == []
    assert [row["record_id"] for row in orders] == [f"O-{n:05d}" for n in range(1, len(orders) + 1)]
    assert len({row["annotator"] for row in orders}) == 4
    times = [row["annotated_at"] for row in orders]
    assert times == sorted(times)


def test_labels_are_canonical_and_valid_but_where_the_key_says_so(orders: Rows, key: Rows) -> None:
    kinds = {row["record_id"]: row["kind"] for row in key}
    for row in orders:
        kind = kinds.get(row["record_id"], "")
        assert _is_valid(row["output"]) == (kind not in INVALID), row["record_id"]
        if kind not in INVALID:
            canonical = rfc8785.dumps(json.loads(row["output"])).decode()
            assert (canonical == row["output"]) == (kind != "not_canonical"), row["record_id"]
    for row in _of_kind(key, "invalid_json"):
        with pytest.raises(ValueError, match=r"."):
            json.loads(_by_id(orders)[row["record_id"]]["output"])
    for row in _of_kind(key, "schema_breach"):
        assert isinstance(json.loads(_by_id(orders)[row["record_id"]]["output"]), dict)


def test_the_message_alone_decides_what_is_right(orders: Rows, key: Rows, golden: Rows) -> None:
    for row in _right(orders, key) + golden:
        assert undecidable(row["input"], json.loads(row["output"])) == [], row["input"]


def test_express_is_what_the_words_say(orders: Rows, key: Rows, golden: Rows) -> None:
    typos = 0
    for row in _right(orders, key) + golden:
        asked = bool(EXPRESS.search(row["input"])) and not DECLINED.search(row["input"])
        said = json.loads(row["output"])["express"]
        # The generator types "overnihgt" now and then; the golden set does not.
        typos += said and not asked
        assert asked == said or (said and "record_id" in row), row["input"]
    assert typos < 30


def test_every_field_is_often_there_and_often_not(orders: Rows, key: Rows, golden: Rows) -> None:
    for rows in (_right(orders, key), golden):
        answers = [json.loads(row["output"]) for row in rows]
        for name in SCHEMA["properties"]:
            share = sum(bool(answer[name]) for answer in answers) / len(answers)
            assert 0.1 < share < 0.6 or (name == "lines" and 0.9 < share < 0.97)
        counts = Counter(len(answer["lines"]) for answer in answers)
        assert min(counts[n] for n in range(4)) > len(answers) / 20
        units = Counter(line["unit"] for answer in answers for line in answer["lines"])
        assert set(units) == set(UNITS)
        assert min(units.values()) >= 8


def test_key_counts_and_references(orders: Rows, key: Rows, golden: Rows) -> None:
    counts = Counter(row["kind"] for row in key)
    assert {k: n for k, n in counts.items() if k != "overlap"} == {
        k: n for k, n in (COUNTS | {"conflict": 2 * COUNTS["conflict"]}).items() if k != "overlap"
    }
    assert len({row["related"] for row in _of_kind(key, "overlap")}) == COUNTS["overlap"]
    known = {row["record_id"] for row in orders} | {row["example_id"] for row in golden}
    assert {row["record_id"] for row in key} <= known
    assert {row["related"] for row in key if row["related"]} <= known
    expected = {"personal_data": "masked", "not_canonical": "rewritten"}
    expected["hidden_instruction"] = "kept"
    assert all(row["expected"] == expected.get(row["kind"], "dropped") for row in key)


def test_hidden_instructions_are_in_their_messages_and_not_obeyed(orders: Rows, key: Rows) -> None:
    by_id, planted = _by_id(orders), _of_kind(key, "hidden_instruction")
    kinds = {row["detail"].partition(": ")[0] for row in planted}
    assert kinds == set(load_parts().sentences["hidden_instructions"])
    for row in planted:
        order, (kind, *values) = by_id[row["record_id"]], row["detail"].split(": ")
        assert undecidable(order["input"], json.loads(order["output"])) == []
        assert kind == "encoded" or all(value in order["input"] for value in values)
        assert not any(value in order["output"] for value in values if not value.isdecimal())
    # What is trained on is not what is measured.
    injected = read_jsonl(HERE / "injected.jsonl")
    for row in planted:
        text = by_id[row["record_id"]]["input"]
        assert max(similarity(text, one["input"]) for one in injected) < 0.5
    assert {row["attack"] for row in injected} - kinds >= {"threat", "bribe", "examples", "format"}


def test_copies_are_what_they_are_called(orders: Rows, key: Rows) -> None:
    by_id, dirty = _by_id(orders), {row["record_id"] for row in key}
    for kind in ("exact_duplicate", "near_duplicate", "overlap"):
        for row in _of_kind(key, kind):
            copy, original = by_id[row["record_id"]], by_id[row["related"]]
            assert row["related"] < row["record_id"]
            assert row["related"] not in dirty
            if kind != "overlap":
                assert copy["output"] == original["output"]
            same = comparison_key(copy["input"]) == comparison_key(original["input"])
            assert same == (kind != "near_duplicate")
            assert similarity(copy["input"], original["input"]) >= 0.85


def test_near_duplicates_still_say_what_their_label_says(orders: Rows, key: Rows) -> None:
    by_id = _by_id(orders)
    for row in _of_kind(key, "near_duplicate") + _of_kind(key, "exact_duplicate"):
        copy = by_id[row["record_id"]]
        assert undecidable(copy["input"], json.loads(copy["output"])) == []


def test_wrong_labels_differ_from_the_right_ones(orders: Rows, key: Rows) -> None:
    by_id = _by_id(orders)
    for row in _of_kind(key, "wrong_label"):
        text = by_id[row["record_id"]]["input"]
        right = json.loads(row["detail"].partition("right output: ")[2])
        assert json.loads(by_id[row["record_id"]]["output"]) != right
        assert undecidable(text, right) == []


def test_conflicts_and_dissent(orders: Rows, key: Rows) -> None:
    by_id = _by_id(orders)
    for row in _of_kind(key, "conflict"):
        one, other = by_id[row["record_id"]], by_id[row["related"]]
        assert one["input"] == other["input"]
        assert one["output"] != other["output"]
        assert one["annotator"] != other["annotator"]
    labels: dict[str, list[str]] = {}
    for row in _of_kind(key, "overlap"):
        labels.setdefault(row["related"], [by_id[row["related"]]["output"]])
        labels[row["related"]].append(by_id[row["record_id"]]["output"])
    disputed = [given for given in labels.values() if len(set(given)) > 1]
    assert len(disputed) == 3
    assert all(Counter(given).most_common()[0] == (given[0], 2) for given in disputed)


def test_empty_long_and_personal_rows(orders: Rows, key: Rows) -> None:
    by_id = _by_id(orders)
    assert not any(by_id[row["record_id"]]["input"].strip() for row in _of_kind(key, "empty"))
    long_rows = {row["record_id"] for row in _of_kind(key, "too_long")}
    assert {row["record_id"] for row in orders if len(row["input"]) > 4000} == long_rows
    planted = {row["record_id"]: row["detail"] for row in _of_kind(key, "personal_data")}
    values = personal_values()
    for row in orders:
        kinds = {kind for kind in values if any(v in row["input"] for v in values[kind])}
        assert ",".join(kinds).upper() == planted.get(row["record_id"], "")
        masked = personal_data.mask(row["input"])[1]
        assert set(masked) == kinds
        assert personal_data.find(row["output"]) == []


def test_clean_orders_are_no_duplicates_of_each_other(orders: Rows, key: Rows) -> None:
    dropped = {"empty", "exact_duplicate", "near_duplicate", "overlap", "conflict", "golden_leak"}
    out = {row["record_id"] for row in key if row["kind"] in dropped}
    texts = [row["input"] for row in orders if row["record_id"] not in out]
    assert near_pairs(texts, None, 0.75) == []


def test_only_the_planted_leaks_are_near_golden(orders: Rows, key: Rows, golden: Rows) -> None:
    leaks = {row["record_id"]: row["related"] for row in _of_kind(key, "golden_leak")}
    examples = {row["example_id"]: row for row in golden}
    other = [row["input"] for row in orders if row["record_id"] not in leaks]
    inputs = [row["input"] for row in golden]
    assert contaminated([text for text in other if text.strip()], inputs, 0.5) == []
    for record, example in leaks.items():
        row = _by_id(orders)[record]
        assert similarity(row["input"], examples[example]["input"]) >= 0.85
        assert row["output"] == examples[example]["output"]


def test_cleaning_finds_the_dirt_that_texts_show_and_loses_no_clean_order(key: Rows) -> None:
    golden = {e.example_id: e.input for e in read_examples(HERE / "golden.jsonl")}
    raw = read_records(HERE / "orders.jsonl")
    result = clean(raw, golden, CleanSettings(), judge_labels=False)
    ledger = result.ledger.set_index("record_id")
    dropped = set(ledger.index[ledger["outcome"] == "dropped"])
    masked = set(ledger.index[ledger["masked"] != ""])
    originals = {row["related"] for row in key}
    for row in key:
        record, kind = row["record_id"], row["kind"]
        if kind in {"conflict", "empty", "too_long", "golden_leak"}:
            assert record in dropped
        elif kind in {"exact_duplicate", "near_duplicate", "overlap"}:
            assert {record, row["related"]} & dropped
    assert masked == {row["record_id"] for row in _of_kind(key, "personal_data")}
    assert dropped <= {row["record_id"] for row in key} | originals


def test_no_sentence_of_the_golden_set_is_one_of_the_parts(golden: Rows) -> None:
    parts = load_parts().sentences
    said = [one for part in parts.values() for one in part if isinstance(one, str)]
    said = [comparison_key(re.sub(r"\{\w+\}", " ", sentence)) for sentence in said]
    whole = {sentence for sentence in said if len(sentence) > 15}
    for row in golden:
        sentences = {comparison_key(one) for one in re.split(r"(?<=[.!?])\s|\n", row["input"])}
        assert not sentences & whole, row["input"]


def test_golden_set(golden: Rows) -> None:
    examples = read_examples(HERE / "golden.jsonl")
    assert 200 <= len(examples) <= 300
    assert all(example.verified_by for example in examples)
    for example in examples:
        assert _is_valid(example.output)
        assert rfc8785.dumps(json.loads(example.output)).decode() == example.output
        assert personal_data.find(example.input) == []
    assert near_pairs([row["input"] for row in golden], None, 0.6) == []


def test_injected_inputs(orders: Rows, golden: Rows) -> None:
    check_injected(HERE, [row["input"] for row in orders + golden])
    for row in read_jsonl(HERE / "injected.jsonl"):
        assert _is_valid(row["output"])
        assert undecidable(row["input"], json.loads(row["output"])) == []
