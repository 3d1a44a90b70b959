"""The asset and its check, with a local endpoint and an engine that has one answer."""

import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.baseline_settings import BaselineSettings, TokenPriceSettings
from ftdm_assets.compute_settings import ComputeSettings
from ftdm_assets.graph.comparison import Contender, baseline_contenders, comparison
from ftdm_assets.graph.plan import Built
from ftdm_assets.request_cost import machine_cost, token_cost
from golden.completion import Usage
from golden.pace import pace_of
from tests.golden.endpoint import serve
from tests.graph.stage import Stage

KEY = "s3cret-of-the-house"
LABELS = ["card", "fee"]
TEXTS = {"card": "my card is {}", "fee": "a fee of {}"}
TEMPLATE = "{% for m in messages %}{{ m['content'] }}: {% endfor %}"
FAMILY = {
    "family": "Tiny", "known": True, "warnings": [], "template": TEMPLATE, "end_of_turn": "<end>",
    "target_modules": "all-linear", "context_length": 512, "own_template": "", "probe": {},
}  # fmt: skip
QUESTIONS = [
    {"question": "Is it day?", "choices": ["no", "yes, it is"], "answer": 0, "subject": "time"}
]


def golden_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "example_id": f"g{n:02}",
            "input": f"hello, {TEXTS[LABELS[n % 2]].format(n)}",
            "output": LABELS[n % 2],
            "verified_by": "jane",
        }
        for n in range(count)
    ]


def stage_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Stage:
    """Return a stage whose upstream assets are there; its engine answers "card"."""
    program = Path(__file__).parents[1] / "gpu_steps" / "gpu_one_answer.py"
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {program} card "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("FTDM_SERVING_PYTHON", str(python))
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    made = Stage(
        folder,
        **{
            "task": {"instruction": "Sort.", "taxonomy": LABELS},
            "general": {"questions": str(folder / "questions.jsonl")},
            **settings,
        },
    )
    base = folder / "base"
    base.mkdir()
    for name, content in (("config.json", {}), ("family.json", FAMILY)):
        (base / name).write_text(json.dumps(content))
    (base / "model.safetensors").touch()
    store = made.reading.store
    records = [
        {
            "record_id": f"r{n}",
            "digest": f"{n:064}",
            "input": TEXTS[LABELS[n % 2]].format(f"number {n}"),
            "output": LABELS[n % 2],
            "data_class": "internal",
        }
        for n in range(20)
    ]
    made.put("base_model", Built(store.put_folder("model", base)))
    made.put("cleaned_dataset", Built(store.put_records("dataset", records)))
    made.put("golden_set", Built(store.put_records("golden", golden_rows(60))))
    return made


def endpoint(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "model": "large", "allowed_data_class": "internal", **more}


def nearest_label(body: dict[str, Any]) -> str:
    """Answer as the likest shot, which stands last, is labelled."""
    return str(body["messages"][0]["content"]).rpartition("JSON: ")[2]


PRICE = {"per_million_input_tokens": 5, "per_million_output_tokens": 25, "currency": "USD"}


def test_an_endpoint_is_scored_on_a_sample_with_latency_and_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_BASELINE_API_KEY", KEY)
    with serve(nearest_label, key=KEY) as url:
        baseline = {"endpoint": endpoint(url), "sample": 50, "price": PRICE, "shots": 2}
        stage = stage_of(tmp_path, monkeypatch, baseline=baseline)
        made = stage.build("baseline_scores")
    document, facts = stage.reading.document("baseline_scores"), made.facts
    assert facts["examples"] == document["prompted"]["total"] == 50
    assert facts["golden_examples"] == 60
    assert facts["prompted_correct"] == 50
    assert (facts["prompted_accuracy_low"], facts["prompted_accuracy_high"]) == (
        pytest.approx(0.929, abs=0.001), 1.0
    )  # fmt: skip
    # 100 tokens in at 5, 4 out at 25 for a million: 0.0006 a request.
    assert facts["cost_per_thousand_requests"] == "0.6 USD"
    assert facts["latency"]["p50_s"] <= facts["latency"]["p95_s"]
    assert facts["concurrency"] == 8
    assert facts["constrained"] == "asked for by response_format"
    assert facts["shots"] == "2, those most like each text"
    assert facts["sent"] == "50 golden inputs and their shots, up to data class internal"
    assert document["endpoint"]["model"] == "large"
    assert document["general"]["total"] == 1
    assert len(document["shots"]) == 50
    assert "number" not in document["prompt"]
    assert document["probe"]["total"] == 60
    outcome = stage.judge("baseline_scores", "fine_tuning_justified")
    assert not outcome.passed
    assert outcome.reason.startswith(
        "the prompted baseline's accuracy is 100.0% (on 50 of 60 golden examples), -15.0 points"
    )
    assert outcome.reason.endswith("less than 10 points, so stay with the prompt")
    _nowhere_is(KEY, stage)


def _nowhere_is(secret: str, stage: Stage) -> None:
    assert not any(secret in line for line in stage.tools.said)
    written = [path for path in stage.reading.home.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_nothing_is_asked_where_the_data_may_not_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def answer(body: dict[str, Any]) -> str:
        asked.append(body)
        return "card"

    with serve(answer) as url:
        settings = endpoint(url, allowed_data_class="public")
        stage = stage_of(tmp_path, monkeypatch, baseline={"endpoint": settings})
        with pytest.raises(ValueError, match="allowed_data_class: internal if its operator may"):
            stage.build("baseline_scores")
    assert not asked
    assert not (tmp_path / "work").exists()


def test_the_base_model_is_prompted_through_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    price = {"per_hour": 3.6, "currency": "EUR"}
    stage = stage_of(tmp_path, monkeypatch, compute={"price": price})
    made = stage.build("baseline_scores")
    document, facts = stage.reading.document("baseline_scores"), made.facts
    assert set(document) == {"prompted", "general", "probe", "prompt"}
    assert document["prompt"].count("Text: ") == 4
    assert (facts["prompted_correct"], facts["examples"], facts["concurrency"]) == (30, 60, 16)
    assert facts["answered_by"] == "the base model SmolLM2-135M-Instruct"
    # A thousand requests take 1000 / rate seconds, each of which costs a thousandth of 1 EUR.
    amount, currency = facts["cost_per_thousand_requests"].split()
    assert float(amount) == pytest.approx(1 / facts["requests_per_second"], rel=0.01)
    assert currency == "EUR"
    assert facts["tokens_per_request"] == {"input_tokens": 100, "output_tokens": 4}
    assert stage.judge("baseline_scores", "fine_tuning_justified").passed
    _the_candidate_is_compared(stage, facts)


def _the_candidate_is_compared(stage: Stage, facts: Any) -> None:
    merged = stage.reading.home / "merged"
    shutil.copytree(stage.reading.artifact("base_model").path, merged)
    (merged / "chat_template.jinja").write_text(TEMPLATE)
    (merged / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    stage.put("merged_model", Built(stage.reading.store.put_folder("model", merged)))
    made = stage.graph.asset("eval_scores").build(stage.reading, stage.tools)
    lines = made.tables["comparison"].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert [row[0] for row in cells] == [
        "prompt: the base model SmolLM2-135M-Instruct", "linear probe", "**this model**"
    ]  # fmt: skip
    assert cells[0][1:4] == cells[2][1:4] == ["50.0%", "37.7% to 62.3%", "60"]
    assert [row[6] for row in cells] == ["16", "1", "16"]
    assert cells[0][7] == facts["cost_per_thousand_requests"]
    assert cells[2][7] == made.facts["cost_per_thousand_requests"]
    assert all(row[7].endswith(" EUR") for row in cells)


def test_what_was_not_measured_is_left_open(tmp_path: Path) -> None:
    model = Stage(tmp_path, task={"instruction": "Sort.", "taxonomy": LABELS}).reading.model
    task = {"correct": 30, "total": 60}
    # The facts of a manifest from before paces were kept.
    before = baseline_contenders(model, {"prompted": task}, {"latency": {"p50_s": 1, "p95_s": 2}})
    unpriced = Contender("this model", task, pace_of([0.5] * 9 + [2], 4, []), None)
    lines = comparison(model, [*before, unpriced]).splitlines()
    assert "| prompt: the base model | 50.0% | 37.7% to 62.3% | 60 | - | - | - | - |" in lines
    assert "| this model | 50.0% | 37.7% to 62.3% | 60 | 0.5 | 2 | 4 | - |" in lines


def test_an_hour_s_price_is_that_of_the_machine_that_trains(tmp_path: Path) -> None:
    pace, price = pace_of([0.5], 1, [Usage(1000, 10)]), {"per_hour": 7.2, "currency": "EUR"}
    here = ComputeSettings.model_validate({"price": price})
    # Two a second: a thousand take 500 s of an hour.
    assert str(machine_cost(pace, here)) == "1.00 EUR"
    modal = {"image": f"i@sha256:{64 * '0'}", "bucket": "s3://bucket", "gpu": "L40S"}
    there = {"kind": "modal", "modal": modal, "price": price}
    assert machine_cost(pace, ComputeSettings.model_validate(there)) is None
    assert machine_cost(pace, ComputeSettings()) is None
    tokens = TokenPriceSettings.model_validate(PRICE)
    assert str(token_cost(pace.usage, tokens)) == "5.25 USD"
    assert token_cost(None, tokens) is None


def scored(stage: Stage, prompted: int, probe: int, **facts: Any) -> None:
    document = {
        name: {"accuracy": right / 100, "correct": right, "total": 100}
        for name, right in (("prompted", prompted), ("probe", probe))
    }
    stage.put("baseline_scores", Built(stage.reading.store.put_document("scores", document), facts))


@pytest.mark.parametrize(
    ("prompted", "probe", "gates", "passed", "told"),
    [
        (75, 95, False, True, "75.0%, 10.0 points below the target of 85.0%; the linear probe"),
        (76, 20, False, False, "76.0%, 9.0 points below the target of 85.0%; the linear probe "
         "scores 20.0%: less than 10 points, so stay with the prompt"),
        (75, 75, True, True, "the linear probe scores 75.0%"),
        (75, 76, True, False, "probe scores 76.0%, less than 10 points below the target, so "
         "serve the probe"),
        (76, 76, True, False, "so stay with the prompt"),
    ],
)  # fmt: skip
def test_the_margin_is_exact_and_the_probe_can_be_a_gate(
    tmp_path: Path, prompted: int, probe: int, gates: bool, passed: bool, told: str
) -> None:
    stage = Stage(tmp_path, baseline={"probe_gates": gates})
    store = stage.reading.store
    stage.put("golden_set", Built(store.put_records("golden", golden_rows(2))))
    scored(stage, prompted, probe)
    outcome = stage.judge("baseline_scores", "fine_tuning_justified")
    assert outcome.passed is passed
    assert told in outcome.reason
    check = next(one for one in stage.graph.checks if one.name == "fine_tuning_justified")
    assert ("probe_gates" in check.threshold) is gates


def test_only_what_decides_the_answers_is_in_the_recipe() -> None:
    same = {"probe_gates": True, "price": PRICE, "shots": 4}
    assert BaselineSettings().deciding() == {}
    assert BaselineSettings.model_validate(same).deciding() == {}
    named = endpoint("https://a/v1", timeout_s=5, retries=1, concurrency=2, key_env="X")
    assert BaselineSettings.model_validate({"endpoint": named, "sample": 50}).deciding() == {
        "endpoint": {"url": "https://a/v1", "model": "large"}, "sample": 50
    }  # fmt: skip
