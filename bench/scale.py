"""Duplicates at scale: this project and three peers on the same rows, each in a process of its own.

Run as ``python -m bench.scale [ROWS] [--peers PYTHON] [--peer-rows ROWS]``, where PYTHON (3.12 or
newer) belongs to a throw-away environment with the peers::

    python3.12 -m venv /tmp/peers
    /tmp/peers/bin/pip install text-dedup==0.4.1 datasketch==2.0.0 semhash==0.5.0 \
        tokenlearn-static-model==0.1.1

Ours is the whole way: contract, normalising, personal data, exact and near duplicates with
consensus, decontamination, ledger. The peers do near duplicates only. Recall: of the planted near
copies, and of all pairs at or above 0.8 that a sample of rows has by brute force, the share of
which one is dropped. False drops: the share of a sample of dropped rows that have no such pair.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.memory import run_watched
from bench.scale_rows import NEAR, Rows, make_rows
from ftdm_assets.records import similarity_join
from ftdm_assets.records.clean import CleanSettings, clean
from ftdm_assets.records.contract import contract_problems
from ftdm_assets.records.gram_sets import GramSets, Numbering, character_grams

TOOLS = ("ours", "text-dedup", "datasketch", "semhash")
SAMPLE = 500
_LIMIT_SECONDS = 3600


@dataclass(frozen=True)
class Result:
    """What a tool dropped, in how many seconds (wall, processor), and its peak memory in GB.

    Memory is the proportional set size of its process and its workers, read twice a second.
    """

    tool: str
    dropped: set[int]
    seconds: float
    cpu: float
    memory: float


def ours(rows: Rows) -> dict[str, Any]:
    """Run contract and cleaning; golden overlaps are told apart from what the peers look for."""
    frame = rows.frame()
    golden = {f"g{place}": text for place, text in enumerate(rows.golden)}
    started, processor = time.perf_counter(), time.process_time()
    problems = contract_problems(frame)
    result = clean(frame, golden, CleanSettings(), judge_labels=False)
    seconds, cpu = time.perf_counter() - started, time.process_time() - processor
    if problems or len(result.ledger) != len(frame) or not result.ledger["row"].is_unique:
        raise SystemExit("the ledger does not account for every row exactly once")
    reasons = result.ledger["reason"].to_numpy()
    leaked = np.flatnonzero(np.char.startswith(reasons.astype(str), "golden"))
    near = np.flatnonzero((reasons != "") & ~np.isin(np.arange(len(reasons)), leaked))
    return {
        "dropped": near.tolist(), "golden": leaked.tolist(), "seconds": seconds, "cpu": cpu,
        "counts": result.counts,
    }  # fmt: skip


def in_a_process(tool: str, python: str, count: int, folder: Path) -> tuple[Result, dict[str, Any]]:
    """Run a tool in a process of its own and return what it found, with its peak memory."""
    out = folder / f"{tool}.json"
    command = [sys.executable, "-m", "bench.scale", str(count), "--only-ours", str(out)]
    if tool != "ours":
        script = Path(__file__).with_name("scale_peers.py")
        command = [python, str(script), tool, str(folder / "texts.json"), str(out)]
    memory = run_watched(command, _LIMIT_SECONDS)
    found = json.loads(out.read_text())
    return Result(tool, set(found["dropped"]), found["seconds"], found["cpu"], memory), found


def neighbours(rows: GramSets, places: list[int], width: int) -> dict[int, list[int]]:
    """Return by brute force who is near to each of these rows."""
    near: dict[int, list[int]] = {place: [] for place in places}
    lengths = rows.sizes[places]
    grams = [rows.grams[rows.starts[place] : rows.starts[place + 1]] for place in places]
    some = GramSets(np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(grams))
    for i, j, _ in similarity_join.compare_all(some, rows, NEAR, width, within=False):
        for one, other in zip(i.tolist(), j.tolist(), strict=True):
            if places[one] != other:
                near[places[one]].append(other)
    return near


def judged(result: Result, rows: Rows, gone: set[int]) -> tuple[float, float, float]:
    """Return recall of the planted copies, recall of the sample's pairs, share of false drops.

    ``gone`` are rows that were dropped for another reason, and are no pair's matter.
    """
    draw = random.Random(1)
    numbering = Numbering(character_grams)
    sets = numbering.sets(rows.texts)
    planted = [pair for pair in rows.planted["near"] if not gone & set(pair)]
    hit = sum(bool(result.dropped & set(pair)) for pair in planted)
    sample = draw.sample([n for n in range(len(rows.texts)) if n not in gone], SAMPLE)
    pairs = [
        (one, other)
        for one, others in neighbours(sets, sample, numbering.width).items()
        for other in others
        if other not in gone
    ]
    met = sum(bool(result.dropped & set(pair)) for pair in pairs)
    drops = draw.sample(sorted(result.dropped), min(SAMPLE, len(result.dropped)))
    alone = [n for n, others in neighbours(sets, drops, numbering.width).items() if not others]
    return hit / len(planted), met / max(len(pairs), 1), len(alone) / max(len(drops), 1)


def compare(count: int, tools: list[str], python: str) -> None:
    """Run the tools on one set of rows, one after the other, and print a line each."""
    rows = make_rows(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "texts.json").write_text(json.dumps(rows.texts), encoding="utf-8")
        for tool in tools:
            result, found = in_a_process(tool, python, count, folder)
            gone = set(found.get("golden", ()))
            planted, sampled, false = judged(result, rows, gone)
            sys.stdout.write(
                f"{tool:11} {count:9,} rows {result.seconds:8.1f} s (cpu {result.cpu:7.1f}) "
                f"{count / result.seconds:9,.0f} rows/s {result.memory:5.2f} GB  "
                f"planted {planted:7.2%}  pairs {sampled:7.2%}  false drops {false:6.2%}\n"
            )
            if tool == "ours":
                leaks = {copy for copy, _ in rows.planted["golden"]}
                caught = len(leaks & (gone | result.dropped))
                sys.stdout.write(f"  golden copies dropped: {caught} of {len(leaks)}\n")
                sys.stdout.write(f"  {found['counts']}\n")
            sys.stdout.flush()


def main() -> None:
    """Print the table of the README."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--peers", default="", help="the Python of an environment with the peers")
    parser.add_argument("--peer-rows", type=int, default=100_000)
    parser.add_argument("--tools", nargs="*", default=list(TOOLS))
    parser.add_argument("--only-ours", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only_ours:
        asked.only_ours.write_text(json.dumps(ours(make_rows(asked.rows))))
        return
    sys.stdout.write(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}\n")
    if asked.peers:
        compare(asked.peer_rows, asked.tools, asked.peers)
    if not asked.peers or asked.peer_rows != asked.rows:
        compare(asked.rows, ["ours"], "")


if __name__ == "__main__":
    main()
