"""The bench of training measures what it says, on a tiny model of the big one's shape."""

import json
import sys
import warnings
from pathlib import Path

import pytest

from bench.memory import run_watched
from bench.training import SHAPE, Result, table
from bench.training_rows import demo_rows, llama_shaped, random_rows
from bench.training_tools import TOOLS, Job, Measured, measure
from ftdm_assets.graph.labels import read_raw
from ftdm_assets.model_folder import load_model
from gpu_steps.prepare_base import PrepareBase, prepare
from gpu_steps.reporting import RecordingReporter
from tests.gpu_steps.gpu_families import TINY

LENGTH, ROWS = 32, 8


def test_all_tools_train_the_same_tokens_and_start_from_the_same_loss(tmp_path: Path) -> None:
    llama_shaped(tmp_path / "base", "tiny", LENGTH)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in random_rows(ROWS, LENGTH)))
    found = {}
    for tool in TOOLS:
        job = Job(tool, str(tmp_path / "base"), str(rows), "lora", SHAPE, ROWS, LENGTH, {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TRL as it comes warns of itself
            found[tool] = measure(job)
    for one in found.values():
        assert one.tokens == ROWS * LENGTH
        assert len(one.seconds) == len(one.losses) == 1
        # One step over the same rows with the same labels, before anything was learned.
        assert one.losses[0] == pytest.approx(found["ours"].losses[0], abs=0.005)


def test_the_table_compares_round_by_round() -> None:
    def result(tool: str, seconds: float) -> Result:
        return Result(tool, Measured([1.0, seconds], 100, [3.0, 2.0], 9.0, None), 1.5)

    text = table([result("ours", 2), result("trl", 4), result("ours", 2), result("trl", 8)])
    assert "ours is 3.00 times as fast (2.00 to 4.00)" in text
    assert "50 tokens/s    1.00 s/step cpu      9 s   1.50 GB loss 3.000 to 2.000" in text


def test_demo_rows_are_the_training_sets(tmp_path: Path) -> None:
    [tiny] = [one for one in TINY if one.family == "SmolLM2"]
    tiny.write(tmp_path / "base")
    prepare(PrepareBase(f"folder:{tmp_path / 'base'}", tmp_path / "made"), RecordingReporter())
    records = read_raw(load_model("support_tickets")).head(100)
    rows = demo_rows(tmp_path / "made", 40, records)
    assert len({row["record_id"] for row in rows}) == 40
    assert all(row["completion"].endswith("<|im_end|>") for row in rows)


def test_memory_is_that_of_the_tree_while_it_runs() -> None:
    hold = "b = bytearray(200_000_000); import time; time.sleep(1.2)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{hold}'])"
    assert 0.2 < run_watched([sys.executable, "-c", child], 30) < 0.4
    with pytest.raises(SystemExit, match="ended with 3"):
        run_watched([sys.executable, "-c", "raise SystemExit(3)"], 30)
