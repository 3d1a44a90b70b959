"""Candidates made worse on purpose, and the check that refuses each.

Run as `python -m bench.worse_candidates FOLDER`: six of the shipped categories go through the graph
to `eval_scores` once as they are and three times spoilt, in a new home below FOLDER. About twenty
minutes on two cores. The exit code says whether the sound one passed and every other was refused by
the check that is meant for it.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).resolve().parents[1] / "ftdm_assets" / "models" / "support_tickets"
MODEL = "worse"
ASSETS = (
    "raw_labels,golden_set,cleaned_dataset,training_set,base_model,baseline_scores,adapter,"
    "merged_model,eval_scores"
)
GATES = """  gates:
    target_accuracy: 0.75
    class_floor_recall: 0.4
    general_drop_points: 10
    # Hardly trained, it wavers between tokens, and a merge tips it over: not what is tested here.
    merge_agreement: 0.8
  training:
    epochs: {epochs}
    learning_rate: {rate}
    lora: {{upper_layers: 15}}
  general: {{share: {share}}}
"""
SOUND = {"epochs": 2, "rate": 0.0015, "share": 0.07}


@dataclass(frozen=True)
class Case:
    """One candidate: what is done to it, and the check that has to refuse it."""

    title: str
    settings: dict[str, float]
    swap: bool
    refused_by: str


CASES = (
    Case("as it is", SOUND, False, ""),
    Case("labels of two classes swapped", SOUND, True, "eval_scores.class_floor"),
    Case("trained for a tenth", SOUND | {"epochs": 0.2}, False, "eval_scores.target_reached"),
    Case(
        "general mix left out and over-trained", {"epochs": 8, "rate": 0.01, "share": 0}, False,
        "eval_scores.general_ability_kept",
    ),
)  # fmt: skip


def main() -> None:
    """Print one line a candidate; exit with 1 where a check has missed one."""
    folder = Path(sys.argv[1]).resolve()
    wrong = 0
    for number, case in enumerate(CASES):
        started = time.monotonic()
        failed, scores = _failed(folder, case, number)
        as_meant = case.refused_by in failed if case.refused_by else not failed
        wrong += not as_meant
        sys.stdout.write(
            f"{'' if as_meant else 'NOT AS MEANT: '}{case.title}: {scores}; failed: "
            f"{', '.join(failed) or 'nothing'} ({time.monotonic() - started:.0f} s)\n"
        )
        sys.stdout.flush()
    sys.exit(int(bool(wrong)))


def _failed(folder: Path, case: Case, number: int) -> tuple[list[str], str]:
    """Run one candidate; return the failed checks, and its scores in words."""
    models = folder / "models"
    rows = [json.loads(line) for line in (SHIPPED / "tickets.jsonl").read_text().splitlines()]
    labels = folder / f"labels-{int(case.swap)}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    if case.swap:
        # The two most frequent are among the six that are taken.
        (first, _), (second, _) = Counter(row["output"] for row in rows).most_common(2)
        other = {first: second, second: first}
        rows = [{**row, "output": other.get(row["output"], row["output"])} for row in rows]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    defs = models / MODEL / "defs.yaml"
    defs.unlink(missing_ok=True)
    golden = ("--golden", str(SHIPPED / "golden.jsonl"))
    made = _ftdm(folder, "new", MODEL, "--labels", str(labels), *golden, "--classes", "6")
    if made.returncode:
        raise SystemExit(made.stderr)
    text = re.sub(r"  gates:\n(    .*\n)+", GATES.format(**case.settings), defs.read_text())
    text = re.sub(r"minimum: \d+", "minimum: 20", text)
    defs.write_text(text.replace("labels:\n", "labels:\n    minimum: 100\n", 1))
    done = _ftdm(folder, "run", MODEL, "--select", ASSETS, "--json")
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(done.stderr) from None
    (folder / f"case-{number}.json").write_text(json.dumps(document, indent=1))
    checks = [text.partition(":")[0] for row in document["assets"] for text in row["failed"]]
    scores = document.get("scores")
    return checks, f"accuracy {scores['accuracy']:.1%}" if scores else "no scores"


def _ftdm(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from ftdm_assets.cli import main; main()", *words]
    environment = {
        **os.environ, "FTDM_HOME": str(folder / "home"), "FTDM_MODELS": str(folder / "models"),
    }  # fmt: skip
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=3000
    )


if __name__ == "__main__":
    main()
