"""lm-evaluation-harness in two passes: what an engine is asked, and what its answers come to."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.graph.general_ability import questions_digest, tasks
from ftdm_assets.settings import SettingsError
from golden.lm_harness import (
    HarnessError,
    Model,
    Tasks,
    general_scores,
    likelihood,
    request_id,
    request_rows,
    score,
)
from tests.graph.samples import model_folder

QUESTIONS = [
    {"question": "What colour is the sky?", "choices": ["blue", "green"], "answer": 0},
    {"question": "How many legs has a spider?", "choices": ["six", "eight"], "answer": 1},
    {"question": "Which one is larger?", "choices": ["whale", "mouse"], "answer": 0},
]
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: {kind}
doc_to_text: "Question: {{{{question}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
generation_kwargs: {{until: ["."], max_gen_toks: 8}}
metric_list: [{{metric: {metric}, aggregation: mean, higher_is_better: true}}]
"""
WORDS: list[str] = []
MODEL = Model("candidate", lambda text: [_number(word) for word in text.split()], 64)


def _number(word: str) -> int:
    if word not in WORDS:
        WORDS.append(word)
    return WORDS.index(word)


def _prompt(*ranks: tuple[float, int]) -> dict[str, Any]:
    told = [{str(n): {"logprob": p, "rank": rank}} for n, (p, rank) in enumerate(ranks)]
    return {"choices": [{"text": "", "prompt_logprobs": [None, *told]}]}


def test_only_the_continuation_counts() -> None:
    response = _prompt((-9.0, 50), (-0.5, 1), (-0.25, 1))
    assert likelihood(response, 2) == (-0.75, True)
    assert likelihood(response, 3) == (-9.75, False)
    with pytest.raises(ValueError, match="no log-probabilities of the prompt"):
        likelihood({"choices": [{"text": "x"}]}, 1)


def test_a_request_is_known_by_its_content() -> None:
    until: dict[str, Any] = {"until": ["."], "max_gen_toks": 8}
    assert request_id("generate_until", ("a", until)) == request_id(
        "generate_until", ("a", dict(reversed(until.items())))
    )
    assert request_id("loglikelihood", ("a", "b")) != request_id("loglikelihood", ("ab", ""))


def test_each_example_is_right_or_wrong_once() -> None:
    def row(number: int, **metrics: Any) -> dict[str, Any]:
        return {"doc_id": number, "doc_hash": f"{number:064x}", **metrics}

    samples = {
        "choose": [row(0, acc=1.0, acc_norm=0.0), row(1, acc=0.0, acc_norm=1.0)],
        "write": [row(0, exact_match=0, filter="strict"), row(0, exact_match=1, filter="loose")],
    }
    scores = general_scores(samples)
    assert (scores.correct, scores.total) == (1, 3)
    assert scores.per_subject == {"choose": (1, 2), "write": (0, 1)}
    with pytest.raises(HarnessError, match="the task talk of lm-eval has none of acc, "):
        general_scores({"talk": [row(0, bleu=0.3)]})


def test_without_the_harness_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python finds it where it is not installed.
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(HarnessError, match=r"needs lm-evaluation-harness .*`pip install"):
        request_rows(Tasks(("arc_easy",)), MODEL)


def test_other_tasks_are_another_measure(tmp_path: Path) -> None:
    def measured(**general: Any) -> str:
        return questions_digest(model_folder(tmp_path / "demo", general=general))

    (tmp_path / "demo" / "tasks").mkdir(parents=True)
    own = {"lm_eval": ["ours"], "lm_eval_folder": "tasks"}
    found = [measured(), measured(lm_eval=["a"]), measured(lm_eval=["a"], limit=5), measured(**own)]
    (tmp_path / "demo" / "tasks" / "ours.yaml").write_text("task: ours\n")
    found.append(measured(**own))
    assert len(set(found)) == 5
    with pytest.raises(SettingsError, match=r"general\.lm_eval_folder: there is no folder"):
        tasks(model_folder(tmp_path / "demo", general={**own, "lm_eval_folder": "nowhere"}))


def test_the_harness_asks_and_scores_local_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    written = {
        "ours_choose": ("multiple_choice", "acc"),
        "ours_write": ("generate_until", "exact_match"),
    }
    (tmp_path / "tasks").mkdir()
    for name, (kind, metric) in written.items():
        text = TASK.format(name=name, data=data, kind=kind, metric=metric)
        (tmp_path / "tasks" / f"{name}.yaml").write_text(text)
    asked = Tasks(tuple(written), 2, tmp_path / "tasks")
    rows = request_rows(asked, MODEL)
    prompts = {row["id"]: [WORDS[n] for n in row["body"]["prompt"]] for row in rows}
    assert len(rows) == 2 * 2 + 2
    # The engine finds "blue" and "six" likely, and writes "eight".
    told = {
        row["id"]: _prompt(*[(-3.0, 9)] * (len(prompts[row["id"]]) - 2), _last(prompts[row["id"]]))
        if "prompt_logprobs" in row["body"]
        else {"choices": [{"text": "eight"}]}
        for row in rows
    }
    scores = score(asked, MODEL, told)
    assert scores.per_subject == {"ours_choose": (1, 2), "ours_write": (1, 2)}
    with pytest.raises(HarnessError, match="lm-eval cannot run the tasks nowhere"):
        request_rows(Tasks(("nowhere",)), MODEL)


def _last(words: list[str]) -> tuple[float, int]:
    return (-0.1, 1) if words[-1] in {"blue", "six"} else (-5.0, 7)
