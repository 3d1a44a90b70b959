"""What it costs, and gives, to hold a model's answers to their form: one golden set, asked twice.

Run as `python -m bench.constrained MODEL FOLDER`: FOLDER is a merged model of that domain model
(`ftdm trace VERSION` names its digest, `store/artifacts/model` of the home folder has it). The
engine is started as production starts a replica, on its share of the cores, and asked by the client
of canary and pytest. Free and held take turns after one pass that warms the engine, so that both
find the same prefixes cached.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ftdm_assets.answer_form import form_of
from ftdm_assets.graph.labels import read_golden
from ftdm_assets.graph.prediction import DTYPE, candidate_asking
from ftdm_assets.model_folder import ModelFolder, load_model
from golden.client import AskSettings, ask_blocking
from golden.examples import Example
from golden.harness import examine
from gpu_steps.engine_process import Engine, running_engine
from gpu_steps.reporting import PlainReporter
from serving.engine import engine_command
from serving.health import free_port
from serving.supervised import split_cores

_SERVED, _START_S, _ANSWER_S = "bench", 600.0, 600.0


def main() -> None:
    """Print a line a pass."""
    parser = argparse.ArgumentParser(prog="python -m bench.constrained")
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--passes", type=int, default=2, help="of each kind")
    parser.add_argument("--examples", type=int, help="the first ones only")
    options = parser.parse_args()
    model = load_model(options.model)
    examples = sorted(read_golden(model).examples, key=lambda one: one.example_id)
    share = split_cores(model.settings.serving.replicas)[0]
    command = engine_command(
        *(options.folder, _SERVED, free_port()),
        cores=list(share) if share else None,
        max_model_len=model.settings.serving.max_model_len,
        dtype=DTYPE,
    )
    form = form_of({**model.task_config(), "constrained": True})
    asking = _asking(model, command.base_url, options.concurrency, {})
    with tempfile.TemporaryDirectory(prefix="ftdm-bench-") as work:
        log, engine = Path(work) / "engine.log", Engine(**asdict(command))
        with running_engine(engine, log, _START_S, PlainReporter("bench")):
            held = replace(asking, body=_asking(model, "", 1, form).body)
            _passes(model, examples[: options.examples], {"free": asking, "held": held}, options)


def _passes(
    model: ModelFolder, examples: list[Example], kinds: Mapping[str, AskSettings], options: Any
) -> None:
    # Before anything else is asked so: what the engine prepares for a form is in the first.
    ask_blocking(examples[:1], kinds["free"])
    for name in ("free", "held", "held"):
        began = time.perf_counter()
        ask_blocking(examples[:1], kinds[name])
        print(f"one question, {name}: {time.perf_counter() - began:.3f} s", flush=True)
    ask_blocking(examples, kinds["free"])
    for name in ("free", "held") * options.passes:
        began = time.perf_counter()
        taken = examine(model.task_kind(), examples, kinds[name])
        seconds, scores, latency = time.perf_counter() - began, taken.scores, taken.latency
        print(
            f"{name}: {scores.correct} of {scores.total} right, {model.task_kind().headline} "
            f"{scores.headline:.3f}, {scores.invalid} invalid, {len(taken.answers.cut_off)} cut "
            f"off; p50 {latency['p50_s']:.3f} s, p95 {latency['p95_s']:.3f} s, "
            f"{len(examples) / seconds:.1f} requests/s",
            flush=True,
        )


def _asking(
    model: ModelFolder, base_url: str, concurrency: int, form: Mapping[str, Any]
) -> AskSettings:
    asking = candidate_asking(_SERVED, model.settings.task.max_new_tokens, form)
    url = f"{base_url}/v1"
    # Beside other work, JSON may take long.
    return replace(asking, base_url=url, concurrency=concurrency, timeout_s=_ANSWER_S)


if __name__ == "__main__":
    main()
