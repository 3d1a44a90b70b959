"""Moving the production pointer: one way for the command, the job, the endpoint and the graph.

Invariants:
- the pointer moves only to a version that is ready, whose router has a replica that answers, and
  that admission lets serve, in this order of cost;
- nothing is started and no weights are loaded: a move to what is warm takes well under a second.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from serving.admission import Admission
from serving.health import require_warm
from serving.pointer import PointerStore
from serving.versions import Move, Version


def promote(
    home: Path,
    model: str,
    version: str,
    *,
    by: str,
    reason: str,
    admission: Admission,
    over: str | None = None,
) -> Move:
    """Make a warm version current; see `PointerStore.promote`.

    Raises:
        AdmissionError: Its evidence does not hold.
        PointerError: It is unknown, not ready or not warm, or production has moved since.
    """
    with PointerStore(home) as store:
        return store.promote(
            model, version, by=by, reason=reason, admit=_admit(admission), over=over
        )


def rollback(
    home: Path, model: str, to: str | None = None, *, by: str, reason: str, admission: Admission
) -> Move:
    """Go back to the version kept warm; see `PointerStore.rollback`.

    Raises:
        AdmissionError: Its evidence does not hold.
        PointerError: There is nothing to go back to, or it is not warm.
    """
    with PointerStore(home) as store:
        return store.rollback(model, to, by=by, reason=reason, admit=_admit(admission))


def _admit(admission: Admission) -> Callable[[Version], None]:
    return partial(_require, admission)


def _require(admission: Admission, version: Version) -> None:
    require_warm(version)
    admission.to_move(version)
