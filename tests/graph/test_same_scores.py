"""One model, one set of scores: the asset, the canary and pytest ask and score alike.

Canary and pytest ask a gateway, as in production, and what reaches the model is compared.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ftdm_assets.graph import evaluation, labels, prediction
from ftdm_assets.model_folder import load_model
from golden.client import AskSettings
from golden.exam import find_defs, make_exam, settings_of_defs
from golden.harness import examine
from tests.golden.endpoint import Reply, completion, serve
from tests.serving.cache_support import gateway, put

SHIPPED, ASKED = "support_tickets", 40


@pytest.mark.parametrize("constrained", [True, False])
def test_the_same_answers_get_the_same_scores_to_the_example(
    tmp_path: Path, constrained: bool
) -> None:
    loaded, defs = load_model(SHIPPED), find_defs(SHIPPED)
    assert defs is not None
    serving = loaded.settings.serving.model_copy(update={"constrained": constrained})
    model = replace(loaded, settings=loaded.settings.model_copy(update={"serving": serving}))
    exam, kind = make_exam(settings_of_defs(defs)), model.task_kind()
    read = labels.read_golden(model).examples
    examples = prediction.examples_in([example.row() for example in read])
    assert examples == exam.examples
    some, wanted = examples[:ASKED], {e.input: e.output for e in examples}
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Reply:
        """Answer right, with blanks, with another label, with none, or with nothing."""
        bodies.append(body)
        text = body["messages"][0]["content"]
        right, other = wanted[text], next(iter(wanted.values()))
        said = [right, f" {right}\n", right.upper(), other, "no such desk", ""]
        told = completion(said[hashlib.sha256(text.encode()).digest()[0] % len(said)]).content
        assert isinstance(told, dict)
        return Reply(200, {**told, "model": body["model"]})

    def reached() -> list[str]:
        """Return what has reached the model since, to the byte, whatever it is called there."""
        taken = sorted(json.dumps({**body, "model": ""}) for body in bodies)
        bodies.clear()
        return taken

    form = model.answer_form()
    assert bool(form) is constrained
    with serve(answer) as url, gateway(tmp_path, None) as door:
        put(tmp_path, url.removesuffix("/v1"), form=form)
        through = AskSettings(SHIPPED, f"{door.url}/v1", door.key)
        canary = replace(through, max_tokens=model.settings.task.max_new_tokens)
        outside = replace(through, max_tokens=exam.max_tokens)
        taken = examine(kind, some, canary).scores.as_dict()
        of_canary = reached()
        told = examine(exam.kind, exam.examples[:ASKED], outside).scores.as_dict()
        of_pytest = reached()
        candidate = prediction.candidate_asking(SHIPPED, model.settings.task.max_new_tokens, form)
        requests = prediction.golden_requests(some, candidate)
        with httpx.Client(trust_env=False) as client:
            rows = {
                one["id"]: {
                    "response": client.post(f"{url}/chat/completions", json=one["body"]).json()
                }
                for one in requests
            }
        of_asset = reached()
    assert of_asset == of_canary == of_pytest
    assert all(("structured_outputs" in one) is constrained for one in of_asset)
    scored = prediction.task_scores(some, prediction.answers_of(rows), kind).as_dict()
    assert 0 < scored["correct"] < ASKED
    assert scored["invalid"] > 0
    assert told["per_example"] == taken["per_example"] == scored["per_example"]
    assert json.dumps(told) == json.dumps(taken) == json.dumps(scored)
    judged = {check.name: dict(check.threshold) for check in evaluation.checks(model)}
    for gate in exam.gates:
        # The asset's check has the training records too, so it says more of its threshold.
        if gate.name != "nothing_echoed":
            assert dict(gate.threshold) == judged[gate.name]
    assert {gate.name for gate in exam.gates} <= set(judged)
