"""What makes training fast or small leaves its result alone: packing, chunks, checkpointing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_steps.rows import Example, Row, encode_rows
from tests.gpu_steps.gpu_runs import adapter_bytes, log_of, run
from tests.gpu_steps.gpu_tiny import TARGETS, row

Make = Callable[..., dict[str, Any]]
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": TARGETS}


@pytest.fixture
def examples(tiny_model: Path) -> list[Example]:
    from gpu_steps import models

    rows = [Row(**row(number)) for number in range(7)]
    return encode_rows(rows, models.load_tokenizer(tiny_model), 128, Path("rows"))


def adapted(folder: Path, attention: str) -> Any:
    """The tiny model with an adapter that does something already."""
    import torch

    from gpu_steps import adapters, models
    from gpu_steps.train import Lora

    models.quiet_libraries()
    base = models.load_model(folder, "float32")
    base.set_attn_implementation(attention)
    torch.manual_seed(1)
    model = adapters.add_adapter(base, Lora(4, 8, 0.0, tuple(TARGETS)))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    from gpu_steps.loss import completion_loss

    batch = dict(batch)
    labels = batch.pop("labels")
    base = model.get_base_model()
    model.zero_grad()
    hidden = base.base_model(**batch, use_cache=False).last_hidden_state
    loss: Any = completion_loss(hidden, labels, base.get_output_embeddings(), None)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_give_the_loss_and_gradients_of_separate_ones(
    tiny_model: Path, examples: list[Example], attention: str
) -> None:
    import torch

    from gpu_steps.collate import Collator

    model = adapted(tiny_model, attention)
    rows = list(range(len(examples)))
    padded = Collator(examples, 0).inputs(rows)
    packed = Collator(examples, 0, packed=True).inputs(rows)
    assert len({len(example.input_ids) for example in examples}) > 3
    assert packed["input_ids"].shape == (1, sum(len(one.input_ids) for one in examples))
    loss, gradients = loss_and_gradients(model, padded)
    other, others = loss_and_gradients(model, packed)
    torch.testing.assert_close(other, loss, rtol=1e-5, atol=1e-6)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5)
    # Without the positions the rows do see each other, and it shows.
    mixed, _ = loss_and_gradients(model, {k: packed[k] for k in ("input_ids", "labels")})
    assert abs(float(mixed - loss)) > 1e-3


def test_a_packed_row_does_not_depend_on_its_neighbour(
    tiny_model: Path, examples: list[Example]
) -> None:
    import torch

    from gpu_steps.collate import Collator

    base = adapted(tiny_model, "sdpa").get_base_model()
    last = len(examples[2].input_ids)
    found = []
    for first in (0, 1):
        batch = Collator(examples, 0, packed=True).inputs([first, 2])
        del batch["labels"]
        with torch.no_grad():
            states = base.base_model(**batch, use_cache=False).last_hidden_state
        found.append(states[0, -last:])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("upper", [None, 2])
def test_a_packed_run_learns_what_a_padded_one_does(
    train_settings: Make, tmp_path: Path, upper: int | None
) -> None:
    logs = []
    for packing in (False, True):
        settings = train_settings(
            output=str(tmp_path / str(packing)), packing=packing, dtype="float32", epochs=1,
            lora=LORA | {"upper_layers": upper},
        )  # fmt: skip
        assert run(settings)["packed"] is packing
        logs.append(log_of(settings))
    for one, other in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["tokens"] == other["tokens"]


def test_on_a_cpu_rows_are_packed_only_when_asked(tiny_model: Path) -> None:
    from gpu_steps import models
    from gpu_steps.collate import wants_packing

    model = models.load_model(tiny_model, "bfloat16")
    assert [wants_packing(one, model) for one in (None, False, True)] == [False, False, True]


@pytest.mark.parametrize("trained_head", [False, True])
def test_the_loss_in_chunks_is_the_loss_in_one(
    monkeypatch: pytest.MonkeyPatch, trained_head: bool
) -> None:
    import torch

    from gpu_steps import loss
    from gpu_steps.rows import IGNORED

    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=False).requires_grad_(trained_head)
    labels = torch.randint(0, 50, (3, 40))
    labels[torch.rand(3, 40) < 0.3] = IGNORED
    seen = []
    head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    found = []
    for largest in (2**28, 4 * 50 * 7):
        monkeypatch.setattr(loss, "_LARGEST_LOGITS", largest)
        hidden = torch.randn(3, 40, 16, generator=torch.Generator().manual_seed(1))
        hidden.requires_grad_()
        head.zero_grad()
        total: Any = loss.completion_loss(hidden, labels, head, 90)
        total.backward()
        found.append([total.detach(), hidden.grad, head.weight.grad])
    labelled = int((labels[:, 1:] != IGNORED).sum())
    assert seen[0] == labelled
    # Forward and once more backward, never more than fits.
    assert max(seen[1:]) == 7
    assert sum(seen[1:]) == 2 * labelled
    for one, other in zip(*found, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_gradient_checkpointing_gives_the_same_bytes(train_settings: Make, tmp_path: Path) -> None:
    """Dropout too: what is computed again draws what it drew before."""
    lora = LORA | {"dropout": 0.1}
    made = []
    for name in ("plain", "checkpointed"):
        settings = train_settings(
            output=str(tmp_path / name), epochs=1, lora=lora,
            gradient_checkpointing=name == "checkpointed",
        )  # fmt: skip
        run(settings)
        made.append(adapter_bytes(settings))
    assert made[0] == made[1]
