"""``ftdm rollback``: the pointer moves first, and only then is anything heavy imported.

What is not warm is started before, where the job would start it; its progress goes to standard
error beside a JSON document.
"""

import getpass
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ftdm_assets.commands import output
from ftdm_assets.home import dagster_home, home
from serving import cold
from serving.admission import StoreAdmission
from serving.pointer import PointerStore
from serving.versions import Move, PointerError, UnknownModelError
from serving.who_moves import who_moves

if TYPE_CHECKING:
    from ftdm_assets.graph.plan import GraphPlan


def rollback(model: str | None, to: str | None, reason: str, as_json: bool) -> int:
    """Move the pointer back, then write the move into the lineage."""
    folder = home()
    name = model or _model_of(to) or _only_model()
    admission = StoreAdmission(folder)
    say = output.note if as_json else output.say
    made = cold.rollback(
        *(folder, name, to),
        by=_person(),
        reason=reason,
        admission=admission,
        progress=say,
        start=partial(_start_terms, name, say),
    )
    _record(made.move)
    if as_json:
        output.print_json({**vars(made.move), "seconds": round(made.seconds, 3)})
    else:
        output.say("the lineage shows it: deployed_version was materialised with the rollback")
    return output.DONE


def _start_terms(model: str, say: Callable[[str], None]) -> cold.StartTerms:
    """Return where the model's defs.yaml says that versions run."""
    graph = _graph(model)
    from ftdm_assets.graph.production import start_terms
    from ftdm_assets.graph.shell import reading_of

    return start_terms(reading_of(graph), say)


def _graph(model: str) -> "GraphPlan":
    dagster_home()
    from ftdm_assets.graph.build import build_plan
    from ftdm_assets.model_folder import load_model

    return build_plan(load_model(model))


def _record(move: Move) -> None:
    """Write the move into store, registry and Dagster; the pointer has moved already.

    The sensor may have been first; a move is told once.
    """
    graph = _graph(move.model)
    import dagster as dg

    from ftdm_assets.graph.move_records import tell_moves
    from ftdm_assets.graph.release import record_aliases
    from ftdm_assets.graph.shell import reading_of
    from ftdm_assets.registries.mlflow_registry import RegistryError

    reading = reading_of(graph)
    with dg.DagsterInstance.get() as instance:
        tell_moves(graph, reading, instance)
    try:
        record_aliases(reading)
    except RegistryError as error:
        output.fail(str(error))


def _person() -> str:
    return who_moves(home(), os.environ.get("FTDM_ACTOR") or getpass.getuser())


def _model_of(version: str | None) -> str | None:
    return version.rsplit("-v", 1)[0] if version and "-v" in version else None


def _only_model() -> str:
    with PointerStore(home()) as store:
        models = [one.model for one in store.pointers()]
    if len(models) == 1:
        return models[0]
    if not models:
        raise UnknownModelError("nothing is in production here; deploy a version first")
    raise PointerError(f"several models are in production ({', '.join(models)}); name one")
