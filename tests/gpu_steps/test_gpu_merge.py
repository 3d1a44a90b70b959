"""The merged folder decodes as it was trained, and is the adapter on its base."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_steps import models
from gpu_steps.config import ConfigError, parse
from gpu_steps.merge import Merge, merge
from gpu_steps.reporting import RecordingReporter
from gpu_steps.train import Train, train
from tests.gpu_steps.gpu_tiny import END, TEMPLATE, row, write_lines

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def merge_settings(train_settings: Make, tiny_model: Path, tmp_path: Path) -> Make:
    """Trains an adapter and makes the configuration of its merge; keywords replace keys."""
    train(parse(train_settings(epochs=4), Train, "step.json"), RecordingReporter())
    rows = write_lines(tmp_path / "agreement.jsonl", [row(number) for number in range(12)])

    def make(**changes: Any) -> dict[str, Any]:
        settings = {
            "base_model": str(tiny_model),
            "adapter": str(tmp_path / "out" / "adapter"),
            "output": str(tmp_path / "merged"),
            "chat_template": TEMPLATE,
            "end_of_turn": END,
            "max_new_tokens": 9,
            "agreement_file": str(rows),
        }
        return settings | changes

    return make


def run(settings: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    merge(parse(settings, Merge, "step.json"), RecordingReporter())
    output = Path(settings["output"])
    found: dict[str, Any] = json.loads((output / "result.json").read_text())
    return output / "model", found


def test_merged_model_is_the_adapter_on_its_base(merge_settings: Make, tmp_path: Path) -> None:
    folder, result = run(merge_settings())
    assert result["prompts"] == 12
    assert result["positions"] > 12 * 3
    assert result["agreement"] >= 0.97
    assert 0 < result["mean_logit_difference"] < result["max_logit_difference"] < 1
    assert sorted(file.name for file in folder.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()


def test_agreement_falls_when_the_merge_is_of_another_adapter(
    merge_settings: Make, tiny_model: Path, tmp_path: Path
) -> None:
    from gpu_steps import adapters, agreement
    from gpu_steps.rows import read_rows

    settings = merge_settings()
    base = models.load_model(tiny_model, "float32")
    adapted = adapters.load_adapter(
        models.load_model(tiny_model, "float32"), tmp_path / "out/adapter"
    )
    tokenizer = models.load_tokenizer(tiny_model)
    rows = read_rows(Path(settings["agreement_file"]))
    assert agreement.measure(adapted, base, tokenizer, rows)["agreement"] < 0.9
    assert agreement.measure(base, base, tokenizer, rows) == {
        "agreement": 1.0,
        "agreement_everywhere": 1.0,
        "positions": agreement.measure(adapted, base, tokenizer, rows)["positions"],
        "mean_kl": 0.0,
        "max_logit_difference": 0.0,
        "mean_logit_difference": 0.0,
        "prompts": 12,
    }


def test_folder_decodes_greedily_and_stops_at_the_end_of_turn(merge_settings: Make) -> None:
    folder, _ = run(merge_settings())
    generation = json.loads((folder / "generation_config.json").read_text())
    tokenizer = models.load_tokenizer(folder)
    end = tokenizer.convert_tokens_to_ids(END)
    assert generation["temperature"] == 0.0
    assert generation["do_sample"] is False
    assert generation["max_new_tokens"] == 9
    assert generation["eos_token_id"] == tokenizer.eos_token_id == end
    assert generation["pad_token_id"] == tokenizer.pad_token_id != end
    config = json.loads((folder / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"]) == (end, tokenizer.pad_token_id)
    assert config["dtype"] == "bfloat16"
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == f"<|im_start|>user\nhi{END}\n<|im_start|>assistant\n"
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE


def test_same_inputs_give_the_same_bytes(merge_settings: Make, tmp_path: Path) -> None:
    first, _ = run(merge_settings())
    second, _ = run(merge_settings(output=str(tmp_path / "again")))
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end_of_turn": "<|eot|>"}, r"end_of_turn '<\|eot\|>' is no special token"),
        ({"end_of_turn": "a"}, "end_of_turn 'a' is no special token"),
        ({"adapter": "nowhere"}, "nowhere: is no adapter folder"),
        ({"chat_template": " "}, "chat_template is empty"),
        ({"method": "full"}, "is no whole model"),
        ({"method": "dora"}, "method must be one of lora, qlora, full, not 'dora'"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(
    merge_settings: Make, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(merge_settings(**changes))
    assert not (tmp_path / "merged").exists()
