"""The scores and times of the last `ftdm run` of a domain model, read from its manifests.

Run as `python -m bench.scores [MODEL]` after `make demo`.
"""

import platform
import sys
from datetime import datetime
from typing import Any

from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.model_folder import load_model
from ftdm_assets.provenance.store import StoreError
from golden.statistics import wilson_interval


def main() -> None:
    """Print the tables of the README."""
    name = sys.argv[1] if len(sys.argv) > 1 else "support_tickets"
    graph = build_plan(load_model(name))
    reading = reading_of(graph)
    baseline, scores = reading.document("baseline_scores"), reading.document("eval_scores")
    rows = {
        "prompted base model": baseline["prompted"],
        **({"linear probe (TF-IDF)": baseline["probe"]} if "probe" in baseline else {}),
        "deployed model": scores["task"],
    }
    for title, found in rows.items():
        interval = wilson_interval(found["correct"], found["total"])
        sys.stdout.write(
            f"{title:22} {found['correct']:4} of {found['total']}  {found['accuracy']:6.1%}  "
            f"(95 %: {interval.low:.1%} to {interval.high:.1%})  {_headline(found)}\n"
        )
    base, now = baseline["general"], scores["general"]
    sys.stdout.write(f"general questions: base {base['accuracy']:.1%}, now {now['accuracy']:.1%}\n")
    for plan in graph.assets:
        try:
            run = reading.manifest(plan.name).run
        except StoreError:
            continue
        started, finished = (datetime.fromisoformat(run[k]) for k in ("started_at", "finished_at"))
        sys.stdout.write(f"{plan.name:20} {(finished - started).total_seconds():7.1f} s\n")
    sys.stdout.write(f"{platform.machine()}, {platform.platform()}\n")


def _headline(found: dict[str, Any]) -> str:
    if "fields" in found:
        return f"field F1 {found['fields']['f1']:.3f}"
    return f"macro-F1 {found['macro_f1']:.3f}"


if __name__ == "__main__":
    main()
