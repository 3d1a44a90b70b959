"""From a base model to a merged one with QLoRA, and what its checks say when something is wrong."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.chat import ChatFormat
from ftdm_assets.graph import prediction
from ftdm_assets.graph.plan import Built
from ftdm_assets.graph.training import _showable
from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.provenance.store import Artifact
from ftdm_assets.tokens import TokenCounter
from tests.gpu_steps.gpu_families import TINY
from tests.gpu_steps.gpu_tiny import LABELS, TEXTS
from tests.graph.stage import Stage

GEMMA = next(tiny for tiny in TINY if tiny.family == "Gemma 2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The stage, built once: tiny Gemma 2, NF4, forty rows."""
    folder = tmp_path_factory.mktemp("stage")
    stage = Stage(
        folder,
        base_model={"name": "tiny", "source": f"folder:{GEMMA.write(folder / 'raw')}"},
        training={
            "method": "qlora",
            "epochs": 2,
            "learning_rate": 0.02,
            "batch_size": 8,
            "lora": {"r": 4, "alpha": 8},
        },
        task={"instruction": "Sort.", "taxonomy": LABELS},
        serving={"max_model_len": 1024},
    )
    records = [
        {
            "record_id": f"r{n}",
            "input": f"{TEXTS[n % 4]} {'please ' * (n % 4)}",
            "output": LABELS[n % 4],
            "data_class": "internal",
        }
        for n in range(40)
    ]
    golden = [
        {
            "example_id": f"g{n}", "input": f"hello, {TEXTS[n % 4]}", "output": LABELS[n % 4],
            "verified_by": "jane",
        }
        for n in range(6)
    ]  # fmt: skip
    store = stage.reading.store
    stage.put("cleaned_dataset", Built(store.put_records("dataset", records)))
    stage.put("golden_set", Built(store.put_records("golden", golden)))
    for name in ("base_model", "training_set", "adapter", "merged_model"):
        stage.build(name)
    return stage


@pytest.fixture
def stage(made: Stage) -> Iterator[Stage]:
    """The stage; what a test makes current is undone."""
    names = ("base_model", "training_set", "adapter", "merged_model")
    before = {name: made.reading.head(name)[0] for name in names}
    yield made
    for name, digest in before.items():
        made.reading.store.set_head(made.graph.model.name, name, digest)


PASSING = [
    ("base_model", "safetensors_only"),
    ("base_model", "special_tokens"),
    ("base_model", "chat_template"),
    ("base_model", "context"),
    ("base_model", "known_family"),
    ("training_set", "template"),
    ("training_set", "trains_to_end_of_turn"),
    ("training_set", "rendered_from_records"),
    ("training_set", "mix_within_bounds"),
    ("adapter", "learned_completions"),
    ("adapter", "loss_fell"),
    ("merged_model", "special_tokens"),
    ("merged_model", "template"),
    ("merged_model", "safetensors_only"),
]


@pytest.mark.parametrize(("asset", "check"), PASSING, ids=lambda part: part)
def test_checks_pass_on_what_was_built(stage: Stage, asset: str, check: str) -> None:
    outcome = stage.judge(asset, check)
    assert outcome.passed, outcome.reason


def test_both_merges_of_qlora_are_told(stage: Stage) -> None:
    outcome = stage.judge("merged_model", "merge_agrees")
    assert "merged into the base before it was quantised" in outcome.reason
    assert outcome.measured["mean_kl"] < outcome.measured["alternative_mean_kl"]
    answers = stage.judge("merged_model", "predictions_agree")
    assert answers.measured["asked"] == 6
    stage.tamper("merged_model", facts=_facts(stage, "merged_model") | {"same_predictions": 5})
    worse = stage.judge("merged_model", "predictions_agree")
    assert not worse.passed
    assert worse.reason.startswith("5 of 6 golden answers are the same, 90% asked for")


def test_the_family_decides_the_modules_and_the_format(stage: Stage) -> None:
    facts = stage.reading.manifest("base_model").facts
    assert (facts["family"], facts["end_of_turn"]) == ("Gemma 2", "<end_of_turn>")
    row = next(row for row in stage.reading.records("training_set") if row["origin"] == "domain")
    assert row["prompt"].startswith("<bos><start_of_turn>user\nSort.\n\n")
    assert row["completion"].endswith("<end_of_turn>")
    folder = stage.reading.artifact("adapter").path
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(facts["target_modules"])


def test_a_decoded_batch_is_shown_unless_it_could_be_secret(stage: Stage) -> None:
    built = stage.reading.attached_records("adapter", "batch")
    assert len(built) == 8
    rows = stage.reading.records("training_set")
    assert len(_showable(stage.reading, rows, built)) == 3
    secret = Stage(stage.reading.home, cleaning={"allowed_data_class": "confidential"})
    general = {row["record_id"] for row in rows if row["origin"] == "general"}
    shown = _showable(secret.reading, rows, built)
    assert all(example["record_id"] in general for example in shown)


# What can be wrong, who finds it, and what it says.


def test_padding_with_the_end_of_turn_is_found(stage: Stage) -> None:
    def pad_with_end(folder: Path) -> None:
        _edit(folder / "tokenizer_config.json", pad_token="<end_of_turn>")

    stage.tamper("base_model", _changed(stage, "base_model", pad_with_end))
    outcome = stage.judge("base_model", "special_tokens")
    assert not outcome.passed
    assert "the padding token <end_of_turn> is also the end of turn" in outcome.reason
    stage.tamper("merged_model", _changed(stage, "merged_model", pad_with_end))
    assert not stage.judge("merged_model", "special_tokens").passed


def test_an_end_of_text_that_is_not_the_end_of_turn_is_found(stage: Stage) -> None:
    def end_otherwise(folder: Path) -> None:
        _edit(folder / "tokenizer_config.json", eos_token="<eos>")
        _edit(folder / "config.json", eos_token_id=1)

    stage.tamper("merged_model", _changed(stage, "merged_model", end_otherwise))
    outcome = stage.judge("merged_model", "special_tokens")
    assert not outcome.passed
    assert (
        "ends with <eos>, a turn with <end_of_turn>; config.json ends otherwise" in outcome.reason
    )


CHATML = next(tiny for tiny in TINY if tiny.family == "Qwen 2.5")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"template": "{{ messages[-1]['content'] }}: "}, "rendered otherwise here"),
        ({"template": "{{ messages[-1]['content'] }}: "}, "leaves the instruction out"),
        ({"template": "{{ messages[-1]['content'] }}: "}, "none of its markers is a token"),
        ({"end_of_turn": "<eos>"}, "not with the end of turn"),
    ],
)
def test_a_wrong_template_of_the_base_is_found(
    stage: Stage, change: dict[str, Any], told: str
) -> None:
    altered = _changed(stage, "base_model", lambda folder: _edit(folder / "family.json", **change))
    stage.tamper("base_model", altered)
    outcome = stage.judge("base_model", "chat_template")
    assert not outcome.passed
    assert told in outcome.reason


def test_another_family_s_template_is_found(stage: Stage, tmp_path: Path) -> None:
    from gpu_steps.prepare_base import PrepareBase, prepare
    from gpu_steps.reporting import RecordingReporter

    source = f"folder:{CHATML.write(tmp_path / 'raw')}"
    prepare(PrepareBase(source, tmp_path / "base"), RecordingReporter())
    chatml = json.loads((tmp_path / "base" / "family.json").read_text())
    altered = _changed(stage, "base_model", lambda folder: _edit(folder / "family.json", **chatml))
    stage.tamper("base_model", altered)
    outcome = stage.judge("base_model", "chat_template")
    assert not outcome.passed
    assert "none of its markers is a token of the tokenizer" in outcome.reason
    # The rows that are there were rendered by another one.
    assert not stage.judge("training_set", "template").passed
    assert not stage.judge("training_set", "rendered_from_records").passed


@pytest.mark.parametrize(
    ("cut", "finders"),
    [
        (lambda text: text[:-20], {"trains_to_end_of_turn", "rendered_from_records"}),
        (lambda text: text[3:], {"rendered_from_records"}),
        (lambda text: "<end_of_turn>", {"trains_to_end_of_turn", "rendered_from_records"}),
    ],
    ids=["no end", "end but half the answer", "nothing but the end"],
)
def test_a_truncated_completion_is_found(
    stage: Stage, cut: Callable[[str], str], finders: set[str]
) -> None:
    rows = stage.reading.records("training_set")
    at = next(at for at, row in enumerate(rows) if row["origin"] == "domain")
    rows[at]["completion"] = cut(rows[at]["completion"])
    stage.tamper("training_set", stage.reading.store.put_records("training_set", rows))
    for check in ("trains_to_end_of_turn", "rendered_from_records"):
        outcome = stage.judge("training_set", check)
        assert outcome.passed == (check not in finders), check
        assert outcome.passed or outcome.measured["first"] == [rows[at]["record_id"]]


def test_loss_outside_the_completions_is_found(stage: Stage) -> None:
    facts = _facts(stage, "adapter")
    stage.tamper("adapter", facts=facts | {"trained_tokens": facts["trained_tokens"] + 1})
    assert not stage.judge("adapter", "learned_completions").passed
    batch = stage.reading.attached_records("adapter", "batch")
    batch[0]["tokens"][0]["trained"] = True
    _tamper_batch(stage, batch, facts)
    outcome = stage.judge("adapter", "learned_completions")
    assert not outcome.passed
    assert outcome.measured["first"] == [batch[0]["record_id"]]


def test_an_end_of_turn_that_was_not_learned_is_found(stage: Stage) -> None:
    batch = stage.reading.attached_records("adapter", "batch")
    batch[0]["tokens"][-1]["trained"] = False
    _tamper_batch(stage, batch, _facts(stage, "adapter"))
    assert not stage.judge("adapter", "learned_completions").passed


def test_a_served_template_that_was_not_trained_with_is_found(stage: Stage) -> None:
    def other(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        path.write_text(path.read_text().replace('"Sort."', '"Sort this."'))

    stage.tamper("merged_model", _changed(stage, "merged_model", other))
    assert not stage.judge("merged_model", "template").passed


def test_one_template_in_training_evaluation_and_serving(stage: Stage) -> None:
    trained = stage.reading.attachment("training_set", "chat_template")
    chat = ChatFormat(**stage.reading.store.read_document(trained.kind, trained.digest))
    merged = stage.reading.artifact("merged_model").path
    tokens = TokenCounter(merged).ids(chat.render(prediction.PROBE, "")[0])
    scores = stage.reading.store.put_document("scores", {})

    def judged(**facts: Any) -> tuple[bool, str]:
        known = {"template_digest": chat.digest, "probe_tokens": tokens}
        stage.put("eval_scores", Built(scores, facts=known | facts))
        outcome = stage.judge("eval_scores", "template")
        return outcome.passed, outcome.reason

    assert judged() == (
        True,
        f"one chat template ({chat.digest[:12]}); the engine makes the tokens of training with it",
    )
    # As an engine does that adds a second beginning-of-text token.
    assert judged(probe_tokens=[tokens[0], *tokens])[0] is False
    assert judged(template_digest="0" * 64)[0] is False


def test_a_context_that_is_too_short_is_found(stage: Stage) -> None:
    altered = _changed(
        stage, "base_model", lambda folder: _edit(folder / "family.json", context_length=512)
    )
    stage.tamper("base_model", altered)
    outcome = stage.judge("base_model", "context")
    assert not outcome.passed
    assert "1024 tokens are served, the base model's context has 512" in outcome.reason


def test_a_discovered_family_is_a_warning_not_a_refusal(stage: Stage) -> None:
    told = {"known": False, "family": "unknown (gpt_neox)", "warnings": ["guessed"]}
    altered = _changed(stage, "base_model", lambda folder: _edit(folder / "family.json", **told))
    stage.tamper("base_model", altered)
    outcome = stage.judge("base_model", "known_family")
    assert (outcome.passed, outcome.reason) == (False, "unknown (gpt_neox): guessed")
    plan = next(check for check in stage.graph.checks if check.name == "known_family")
    assert plan.severity == "warn"


def _facts(stage: Stage, asset: str) -> dict[str, Any]:
    return dict(stage.reading.manifest(asset).facts)


def _tamper_batch(stage: Stage, batch: list[dict[str, Any]], facts: dict[str, Any]) -> Manifest:
    stored = stage.reading.store.put_records("batch", batch)
    known = dict(stage.reading.manifest("adapter").attachments)
    attachments = known | {"batch": {"kind": stored.kind, "digest": stored.digest}}
    return stage.tamper("adapter", facts=facts, attachments=attachments)


def _changed(stage: Stage, asset: str, change: Callable[[Path], None]) -> Artifact:
    """Store a copy of a model's folder after a change."""
    copy = stage.reading.home / "copy"
    shutil.copytree(stage.reading.artifact(asset).path, copy)
    try:
        change(copy)
        return stage.reading.store.put_folder("model", copy)
    finally:
        shutil.rmtree(copy)


def _edit(path: Path, **changes: Any) -> None:
    path.chmod(0o644)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
