"""``ftdm run``: materialise what is not current, judge what is not judged, say what came out."""

import time
from typing import Any

from ftdm_assets.commands import output
from ftdm_assets.commands.alone import alone
from ftdm_assets.home import dagster_home
from ftdm_assets.model_folder import load_model
from ftdm_assets.settings import SettingsError


def run(name: str, select: str | None, as_json: bool) -> int:
    """Run a domain model's graph where it is not current."""
    started = time.monotonic()
    model = load_model(name)
    dagster_home()
    from ftdm_assets.graph.build import build_plan
    from ftdm_assets.graph.labels import read_golden, read_raw

    # What the files say wrong is said before anything starts: one sentence, exit code 2.
    if model.settings.labels.source == "file":
        read_raw(model)
    read_golden(model)
    graph = build_plan(model)
    known = {plan.name for plan in graph.assets}
    chosen = {part.strip() for part in select.split(",") if part.strip()} if select else None
    if chosen is not None and not chosen <= known:
        strange = ", ".join(sorted(chosen - known))
        raise SettingsError(
            f"--select: there is no asset {strange}; assets: {', '.join(sorted(known))}"
        )
    with alone(name, f"ftdm run {name}"):
        return _run(graph, chosen, as_json, started)


def _run(graph: Any, chosen: set[str] | None, as_json: bool, started: float) -> int:
    import dagster as dg

    from ftdm_assets.commands.report import Outcome, report
    from ftdm_assets.commands.watch import Watch
    from ftdm_assets.graph.dead_runs import close_dead_runs
    from ftdm_assets.graph.execute import execute, work_to_do

    with dg.DagsterInstance.get() as instance:
        for run_id in close_dead_runs(instance):
            output.console(error=True).print(f"run {run_id[:8]} was killed; going on from there")
        work = work_to_do(graph, instance, chosen)
        seconds: dict[str, float] = {}
        problem = ""
        if work.nothing:
            if not as_json:
                output.say("everything is current")
        else:
            # Checks on what stays come first: what is made after them asks the gate for them.
            for part in work.in_order():
                with Watch(instance, graph.model.name, quiet=as_json) as watch:
                    problem = execute(graph, instance, part, watch.run_id) or problem
                seconds.update(watch.seconds)
        total = time.monotonic() - started
    return report(graph, Outcome(seconds, work.assets, problem, total), as_json)
