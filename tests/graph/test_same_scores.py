"""One model, one set of scores: the asset, the canary and pytest ask and score alike."""

import hashlib
import json
from typing import Any

import httpx

from ftdm_assets.graph import evaluation, labels, prediction
from ftdm_assets.model_folder import load_model
from golden.client import AskSettings, chat_body
from golden.exam import find_defs, make_exam, settings_of_defs
from golden.harness import examine
from tests.golden.endpoint import serve

SHIPPED, ASKED = "support_tickets", 40


def test_the_same_answers_get_the_same_scores_to_the_example() -> None:
    model, defs = load_model(SHIPPED), find_defs(SHIPPED)
    assert defs is not None
    exam, kind = make_exam(settings_of_defs(defs)), model.task_kind()
    read = labels.read_golden(model).examples
    examples = prediction.examples_in([example.row() for example in read])
    assert examples == exam.examples
    some, wanted = examples[:ASKED], {e.input: e.output for e in examples}

    def answer(body: dict[str, Any]) -> str:
        """Answer right, with blanks, with another label, with none, or with nothing."""
        text = body["messages"][0]["content"]
        right, other = wanted[text], next(iter(wanted.values()))
        said = [right, f" {right}\n", right.upper(), other, "no such desk", ""]
        return said[hashlib.sha256(text.encode()).digest()[0] % len(said)]

    with serve(answer) as url:
        canary = AskSettings(SHIPPED, url, max_tokens=model.settings.task.max_new_tokens)
        outside = AskSettings(SHIPPED, url, max_tokens=exam.max_tokens)
        taken = examine(kind, some, canary).scores.as_dict()
        told = examine(exam.kind, exam.examples[:ASKED], outside).scores.as_dict()
        candidate = prediction.candidate_asking(SHIPPED, model.settings.task.max_new_tokens)
        requests = prediction.golden_requests(some, candidate)
        with httpx.Client(trust_env=False) as client:
            rows = {
                one["id"]: {
                    "response": client.post(f"{url}/chat/completions", json=one["body"]).json()
                }
                for one in requests
            }
    scored = prediction.task_scores(some, prediction.answers_of(rows), kind).as_dict()
    assert 0 < scored["correct"] < ASKED
    assert scored["invalid"] > 0
    assert told["per_example"] == taken["per_example"] == scored["per_example"]
    assert json.dumps(told) == json.dumps(taken) == json.dumps(scored)
    bodies = [one["body"] for one in requests]
    assert bodies == [chat_body(e.input, canary) for e in some]
    assert bodies == [chat_body(e.input, outside) for e in some]
    judged = {check.name: dict(check.threshold) for check in evaluation.checks(model)}
    for gate in exam.gates:
        # The asset's check has the training records too, so it says more of its threshold.
        if gate.name != "nothing_echoed":
            assert dict(gate.threshold) == judged[gate.name]
    assert {gate.name for gate in exam.gates} <= set(judged)
