"""Modal Sandboxes end to end: the real client, the real container command, the real training."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from modal import client
from modal_proto import api_pb2

from ftdm_assets.compute.chosen import operator_of
from ftdm_assets.compute_settings import ComputeSettings
from tests.compute.conftest import BUCKET, credentials
from tests.compute.modal_server import ModalServer
from tests.compute.running import (
    Outcome,
    adapter_bytes,
    materialize,
    settings,
    thirty_rows,
    when,
)

# Each container imports torch anew; beside other load that alone may take minutes.
pytestmark = pytest.mark.timeout(900)
IMAGE = f"registry.example.org/{'1' * 12}/steps@sha256:{'a' * 64}"
TOKEN = "as-a-token-that-stays-here"


@pytest.fixture(scope="module")
def modal(
    s3: str, container: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModalServer]:
    """Start Modal and let its environment name it, with the secret that its containers need."""
    server = ModalServer(tmp_path_factory.mktemp("modal"), container)
    server.secrets["ftdm-bucket"] = credentials(s3)
    server.tokens = {TOKEN}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MODAL_SERVER_URL": server.url,
            "MODAL_TOKEN_ID": "ak-of-the-tests",
            "MODAL_TOKEN_SECRET": TOKEN,
            "MODAL_CONFIG_PATH": "/nonexistent",
        }.items():
            patch.setenv(name, value)
        yield server
        client.Client.from_env().close()
    server.close()


def compute(**changes: object) -> ComputeSettings:
    job = {
        "image": IMAGE,
        "bucket": f"s3://{BUCKET}/modal",
        "gpu": "L40S",
        "secrets": ["ftdm-bucket"],
        "poll_seconds": 0.1,
        "patience_minutes": 0.2,
    }
    return ComputeSettings.model_validate({"kind": "modal", "modal": job | changes})


@pytest.fixture(scope="module")
def unbroken(
    modal: ModalServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """A training whose create answer is lost."""
    folder = tmp_path_factory.mktemp("unbroken")
    config = settings(tiny_model, thirty_rows(folder), folder / "result")
    modal.cut["SandboxCreate"] = 1
    return folder / "result", materialize(compute(), config, folder)


def test_a_lost_answer_does_not_start_a_second_sandbox(
    modal: ModalServer, unbroken: tuple[Path, Outcome]
) -> None:
    outcome = unbroken[1]
    assert outcome.success, outcome.error
    assert modal.calls["SandboxCreate"] >= 2
    assert len(modal.named(outcome.facts["job"])) == 1


def test_the_adapter_is_the_one_that_is_made_here_to_the_byte(
    unbroken: tuple[Path, Outcome], trained_here: dict[str, bytes]
) -> None:
    assert adapter_bytes(unbroken[0]) == trained_here


def test_its_log_and_facts_come_back_and_no_secret_is_in_them(
    modal: ModalServer, unbroken: tuple[Path, Outcome]
) -> None:
    outcome = unbroken[1]
    assert len([line for line in outcome.lines if "step 48 of 48: loss" in line]) == 1
    facts = outcome.facts
    assert (facts["attempt"], facts["gpu"]) == (1, "L40S")
    assert facts["image"] == f"steps@sha256:{'a' * 64}"
    assert facts["billable_seconds"] > 0
    (sandbox,) = modal.named(facts["job"])
    definition = sandbox.request.definition
    assert definition.timeout_secs == 24 * 3600
    assert definition.resources.gpu_config.gpu_type == "L40S"
    tags = {tag.tag_name: tag.tag_value for tag in sandbox.request.tags}
    assert tags["ftdm-model"] == "my_model"
    said = str(sandbox.request) + "".join(outcome.lines) + str(facts)
    assert "a-secret-that-stays-here" not in said
    assert TOKEN not in said


def test_what_modal_has_forgotten_is_not_run_again(
    modal: ModalServer, unbroken: tuple[Path, Outcome], tiny_model: Path, rows: Path
) -> None:
    created = modal.calls["SandboxCreate"]
    outcome = materialize(
        compute(), settings(tiny_model, rows, rows.parent / "result"), rows.parent
    )
    assert outcome.success
    assert modal.calls["SandboxCreate"] == created
    assert adapter_bytes(rows.parent / "result") == adapter_bytes(unbroken[0])


def test_a_failure_has_the_step_s_own_words(
    modal: ModalServer, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    config = settings(tiny_model, rows, tmp_path / "result", epochs=-1)
    outcome = materialize(compute(gpu="T4"), config, tmp_path)
    assert not outcome.success
    assert "failed as Modal sandbox ftdm-my-model-train-" in outcome.error
    assert "epochs must be greater than 0, not -1" in outcome.error
    del modal


def test_a_cancelled_run_stops_the_sandbox_and_the_next_goes_on_from_its_checkpoint(
    modal: ModalServer, tiny_model: Path, rows: Path, tmp_path: Path,
    unbroken: tuple[Path, Outcome],
) -> None:  # fmt: skip
    where = compute(gpu="A10G")
    config = settings(tiny_model, rows, tmp_path / "result")

    def checkpoint() -> bool:
        return any(
            list(one.container.folder.glob("ml/checkpoints/*/checkpoint-*/whole"))
            for one in modal.sandboxes.values()
            if one.request.definition.resources.gpu_config.gpu_type == "A10G"
        )

    watching = when(checkpoint, lambda: os.kill(os.getpid(), signal.SIGINT))
    outcome = materialize(where, config, tmp_path)
    watching.join()
    assert not outcome.success
    assert any("asked Modal to stop" in line for line in outcome.lines)
    again = materialize(where, config, tmp_path)
    assert again.success, again.error
    assert again.facts["attempt"] == 2
    assert any("going on from checkpoint-" in line for line in again.lines)
    assert adapter_bytes(tmp_path / "result") == adapter_bytes(unbroken[0])


def test_ends_that_are_modal_s_doing_and_refusals_are_told(
    modal: ModalServer, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    status = api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT
    config = settings(tiny_model, rows, tmp_path / "result", epochs=2000)

    def runs() -> bool:
        return any("H100" in str(one.request) and one.container.lines for one in
                   modal.sandboxes.values())  # fmt: skip

    def out_of_time() -> None:
        name = next(one.request.definition.name for one in modal.sandboxes.values()
                    if "H100" in str(one.request))  # fmt: skip
        sandbox = modal.named(name)[-1]
        sandbox.status = status
        sandbox.container.process.kill()

    watching = when(runs, out_of_time)
    outcome = materialize(compute(gpu="H100", max_hours=2), config, tmp_path)
    watching.join()
    assert "it ran for 2 hours, raise compute.modal.max_hours" in outcome.error
    missing = materialize(compute(gpu="B200", secrets=["nobody"]), config, tmp_path)
    assert "Modal refused it: No Secret named 'nobody'" in missing.error
    modal.tokens = {"another"}
    refused = materialize(compute(gpu="B200"), config, tmp_path)
    modal.tokens = {TOKEN}
    assert "Modal does not accept the token; set MODAL_TOKEN_ID" in refused.error
    found = operator_of(compute())
    assert found is not None
    assert found[0].look_up("ftdm-nothing-1") is None
