"""Each family, on a tiny random model of its architecture with its special tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ftdm_assets.chat import ChatFormat
from gpu_steps import models
from gpu_steps.config import ConfigError, parse
from gpu_steps.discovery import with_instruction
from gpu_steps.families import FAMILIES
from gpu_steps.loss import labelled_logits
from gpu_steps.lower_layers import can_keep
from gpu_steps.prepare_base import PrepareBase, prepare
from gpu_steps.reporting import RecordingReporter
from gpu_steps.rows import IGNORED, Example, Row, encode_rows, special_tokens
from gpu_steps.train import Train, train
from tests.gpu_steps.gpu_families import SCALED, SIZES, TINY, Tiny, scaled
from tests.gpu_steps.gpu_tiny import LABELS, TEXTS, write_lines

# What a question with its instruction and an answer has to look like, written out by hand.
RENDERED = {
    "Llama 3.1": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSort.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "a<|eot_id|>",
    ),
    "Mistral v0.3": ("<s>[INST] Sort.\n\nq[/INST]", "a</s>"),
    "Phi-3": ("<|system|>\nSort.<|end|>\n<|user|>\nq<|end|>\n<|assistant|>\n", "a<|end|>"),
    "Gemma 2": (
        "<bos><start_of_turn>user\nSort.\n\nq<end_of_turn>\n<start_of_turn>model\n",
        "a<end_of_turn>",
    ),
    "Qwen 2.5": (
        "<|im_start|>system\nSort.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
        "<|im_start|>assistant\n",
        "a<|im_end|>",
    ),
}
RENDERED["SmolLM2"] = RENDERED["Qwen 2.5"]
PADS = {
    "Llama 3.1": "<|finetune_right_pad_id|>",
    "Mistral v0.3": "<unk>",
    "Phi-3": "<unk>",
    "Gemma 2": "<pad>",
    "Qwen 2.5": "<|endoftext|>",
    "SmolLM2": "<|endoftext|>",
}
LENGTHS = {
    "Llama 3.1": 131072,
    "Mistral v0.3": 32768,
    "Phi-3": 4096,
    "Gemma 2": 8192,
    "Qwen 2.5": 32768,
    "SmolLM2": 8192,
}


@pytest.fixture(scope="session", params=TINY, ids=lambda tiny: tiny.family)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared tiny base model of each family."""
    tiny: Tiny = request.param
    folder = tmp_path_factory.mktemp("family")
    tiny.write(folder / "raw")
    prepare(PrepareBase(f"folder:{folder / 'raw'}", folder / "base"), RecordingReporter())
    return folder / "base"


def family_of(base: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((base / "family.json").read_text())
    return found


def rendered(base: Path, number: int) -> dict[str, str]:
    """Row `number` in the family's own format."""
    found, tokenizer = family_of(base), models.load_tokenizer(base)
    text = f"{TEXTS[number % 4]} {'please ' * (number % 3)}"
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        chat_template=with_instruction(found["template"], "Sort."),
        tokenize=False,
        add_generation_prompt=True,
    )
    completion = LABELS[number % 4] + found["end_of_turn"]
    return {"record_id": f"r{number}", "prompt": prompt, "completion": completion}


def test_template_end_of_turn_padding_and_context(base: Path) -> None:
    found, tokenizer = family_of(base), models.load_tokenizer(base)
    assert found["known"] is True
    template = with_instruction(found["template"], "Sort.")
    prompt, completion = RENDERED[found["family"]]
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    options: dict[str, Any] = {"chat_template": template, "tokenize": False}
    assert prompt == tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, **options)
    whole = tokenizer.apply_chat_template(turns, **options)
    assert whole.removeprefix(prompt).strip() == completion
    own = [{"role": "system", "content": "Other."}, turns[0]]
    assert tokenizer.apply_chat_template(own, add_generation_prompt=True, **options) == (
        prompt.replace("Sort.", "Other.")
    )
    end = tokenizer(completion, add_special_tokens=False)["input_ids"][-1]
    assert tokenizer.convert_ids_to_tokens(end) == found["end_of_turn"]
    assert tokenizer.pad_token == found["pad_token"] == PADS[found["family"]]
    assert tokenizer.pad_token_id not in (end, tokenizer.eos_token_id, None)
    config = json.loads((base / "config.json").read_text())
    assert config["pad_token_id"] == tokenizer.pad_token_id
    assert found["context_length"] == LENGTHS[found["family"]]


def test_what_is_said_forges_no_turn(base: Path) -> None:
    found, tokenizer = family_of(base), models.load_tokenizer(base)
    special = special_tokens(tokenizer)
    plain = dict.fromkeys(("user", "system"), "q")
    forged = " ".join(f"a{token}b {token[:2]}{token}{token[2:]}" for token in special)
    template = with_instruction(found["template"], "Sort.")

    def count(said: dict[str, str]) -> int:
        turns = [{"role": role, "content": said[role]} for role in ("system", "user")]
        text = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        return sum(token in special.values() for token in tokens)

    assert special
    assert count(plain | {"user": forged}) == count(plain | {"system": forged}) == count(plain)
    # The engine's way and the graph's are one: another compiler of the same text.
    chat = ChatFormat(template, found["end_of_turn"])
    turns = [{"role": "user", "content": forged}]
    options: dict[str, Any] = {"chat_template": template, "tokenize": False}
    library = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **options)
    assert chat.render(forged, "")[0] == library


def test_the_base_folder_renders_a_system_message(base: Path) -> None:
    turns = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "q"}]
    text = models.load_tokenizer(base).apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    assert text == RENDERED[family_of(base)["family"]][0]


def test_target_modules_are_the_model_s_linear_layers(base: Path) -> None:
    model = models.load_model(base, "float32")
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    }
    assert set(family_of(base)["target_modules"]) == linear


def test_one_step_has_the_library_s_loss_and_trains_the_completion_only(
    base: Path, tmp_path: Path
) -> None:
    found = family_of(base)
    rows = [rendered(base, number) for number in range(6)]
    settings = {
        "base_model": str(base),
        "base_name": found["family"],
        "base_digest": "0",
        "train_file": str(write_lines(tmp_path / "rows.jsonl", rows)),
        "output": str(tmp_path / "out"),
        "work": str(tmp_path / "work"),
        "seed": 1,
        "method": "lora",
        "lora": {"r": 2, "alpha": 4, "dropout": 0, "target_modules": found["target_modules"]},
        "epochs": 1,
        "learning_rate": 0.01,
        "batch_size": 6,
        "max_length": 256,
        "warmup_ratio": 0.0,
        "scheduler": "constant",
        "dtype": "float32",
        "checkpoint_every": 5,
        "threads": 1,
    }
    train(parse(settings, Train, "step.json"), RecordingReporter())
    log = json.loads((tmp_path / "out" / "train_log.jsonl").read_text())
    assert log["loss"] == pytest.approx(library_loss(base, rows), rel=1e-5)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()
    completions = {one["record_id"]: one["completion"] for one in rows}
    for example in json.loads((tmp_path / "out" / "batch.json").read_text()):
        trained = [token for token in example["tokens"] if token["trained"]]
        text = "".join(token["text"] for token in trained)
        assert text == completions.pop(example["record_id"])
        assert trained[-1]["text"] == found["end_of_turn"]
    assert not completions


def library_loss(base: Path, rows: list[dict[str, str]]) -> float:
    """The loss of the model's own forward pass, over all logits of one padded batch."""
    tokenizer, model = models.load_tokenizer(base), models.load_model(base, "float32").eval()
    examples = encode_rows([Row(**one) for one in rows], tokenizer, 256, Path("f"))
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(one.input_ids) for one in examples],
        batch_first=True,
        padding_value=tokenizer.pad_token_id,
    )
    labels = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(one.labels) for one in examples], batch_first=True, padding_value=IGNORED
    )
    lengths = torch.tensor([len(one.input_ids) for one in examples])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        return float(model(input_ids=ids, attention_mask=mask, labels=labels).loss)


@pytest.mark.parametrize("name", SCALED)
def test_logits_are_scaled_and_capped_as_the_library_does(name: str) -> None:
    model = scaled(name)
    ids = torch.arange(3, 23).reshape(2, 10)
    labelled = torch.zeros(2, 9, dtype=torch.bool)
    labelled[0, 5:], labelled[1, 7:] = True, True
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        whole = model(**inputs).logits[:, :-1][labelled]
        bare = model.get_output_embeddings()(model.base_model(**inputs).last_hidden_state)
        torch.testing.assert_close(labelled_logits(model, inputs, labelled), whole)
        # The head alone would not do: this is what the test is there for.
        assert not torch.allclose(bare[:, :-1][labelled], whole, rtol=1e-2)


def test_a_model_that_ignores_which_logits_to_keep_gives_them_all() -> None:
    model = scaled("granite")

    class Deaf:
        def __call__(self, logits_to_keep: Any, **inputs: Any) -> Any:
            return model(**inputs)

    ids = torch.arange(3, 13).reshape(1, 10)
    labelled = torch.arange(9)[None] > 6
    found = labelled_logits(Deaf(), {"input_ids": ids}, labelled)
    torch.testing.assert_close(found, model(input_ids=ids).logits[:, :-1][labelled])


def test_lower_layers_are_left_out_only_where_states_enter_as_they_are() -> None:
    import peft

    models.quiet_libraries()
    examples = [Example([3, 4, 5], [IGNORED, 4, 5])]
    adapter = peft.LoraConfig(target_modules=["q_proj"])
    granite = peft.get_peft_model(scaled("granite"), adapter)
    assert not can_keep(granite, examples)
    torch.manual_seed(1)
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, vocab_size=64))
    assert can_keep(peft.get_peft_model(plain, adapter), examples)


ALPACA = (
    "{% for m in messages %}{{ '### ' + m['role'] + ' INSTRUCTION:\n' + m['content'] + "
    "(eos_token if m['role'] == 'assistant' else '\n') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant INSTRUCTION:\n' }}{% endif %}"
)


def unknown(template: str | None, special: tuple[str, ...] = ("<pad>", "<eos>")) -> Tiny:
    return Tiny(
        "?", transformers.GPTNeoXConfig, special, None, special[-1], None, {}, template
    )  # fmt: skip


def discovered(tiny: Tiny, folder: Path) -> tuple[dict[str, Any], list[str]]:
    reporter = RecordingReporter()
    prepare(PrepareBase(f"folder:{tiny.write(folder / 'raw')}", folder / "base"), reporter)
    return family_of(folder / "base"), reporter.lines


def test_an_unknown_family_is_discovered_with_a_warning(tmp_path: Path) -> None:
    found, lines = discovered(unknown(ALPACA), tmp_path)
    assert found["family"] == "unknown (gpt_neox)"
    assert found["known"] is False
    assert (found["end_of_turn"], found["pad_token"]) == ("<eos>", "<pad>")
    assert found["target_modules"] == "all-linear"
    assert found["context_length"] == 2048
    assert found["probe"]["prompt"] == (
        "### system INSTRUCTION:\nAnswer in brief.\n### user INSTRUCTION:\nWhat is it?\n"
        "### assistant INSTRUCTION:\n"
    )
    assert any(line.startswith("warning: model type gpt_neox") for line in lines)


def test_an_unknown_family_without_a_system_role_gets_it_in_the_first_turn(tmp_path: Path) -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    found, _ = discovered(unknown(refusing + ALPACA), tmp_path)
    assert found["system_role"] is False
    assert found["probe"]["prompt"].startswith(
        "### user INSTRUCTION:\nAnswer in brief.\n\nWhat is it?\n### assistant"
    )
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}]
    tokenizer = models.load_tokenizer(tmp_path / "base")
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "### user INSTRUCTION:\nS\n\nq\n"


def test_a_template_that_tells_the_date_tells_always_the_same(tmp_path: Path) -> None:
    dated = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') + '\n' }}{% endif %}"
    found, lines = discovered(unknown(dated + ALPACA), tmp_path)
    assert found["probe"]["prompt"].startswith("01 Jan 2025\n### system")
    assert any("tells the date" in line for line in lines)


def test_chatml_tokens_are_enough_for_a_model_without_a_template(tmp_path: Path) -> None:
    found, lines = discovered(unknown(None, ("<pad>", "<|im_start|>", "<|im_end|>")), tmp_path)
    assert found["end_of_turn"] == "<|im_end|>"
    assert any("probably no instruction-tuned model" in line for line in lines)


ENDLESS = ALPACA.replace("eos_token if m['role'] == 'assistant' else '\n'", "'\n'")
OTHERWISE = ALPACA.replace("### assistant INSTRUCTION:\n", "Answer:")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "of no known family and its tokenizer has no chat template"),
        (ENDLESS, r"ends an answer with '', no special token .* could not learn to stop"),
        (OTHERWISE, "does not go on from its generation prompt to the answer"),
    ],
)
def test_what_cannot_be_discovered_is_one_sentence(
    template: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        discovered(unknown(template), tmp_path)


def test_padding_that_is_the_end_of_turn_is_refused(base: Path) -> None:
    tokenizer = models.load_tokenizer(base)
    row = Row(**rendered(base, 0))
    tokenizer.pad_token = family_of(base)["end_of_turn"]
    with pytest.raises(ConfigError, match="is also its end of turn"):
        encode_rows([row], tokenizer, 256, Path("train.jsonl"))


def test_every_family_of_the_table_is_tested() -> None:
    assert [tiny.family for tiny in TINY] == [family.name for family in FAMILIES]
