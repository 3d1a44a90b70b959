"""Moving the production pointer: one way for the command, the job, the endpoint and the graph.

Invariants:
- the pointer moves only to a version that is ready, of which a replica answers, and
  that admission lets serve, in this order of cost;
- nothing is started and no weights are loaded: a move to what is warm takes well under a second,
  to what is asleep (`serving.sleep`) the seconds that it takes to wake up.
  `serving.cold` starts what is not warm, and then rolls back by this.
"""

from functools import partial
from pathlib import Path

from serving.admission import Admission
from serving.health import require_warm
from serving.pointer import PointerStore
from serving.sleep import awake
from serving.versions import Move, Pointer, PointerError, Version


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
    with PointerStore(home) as store, awake(home, store, model, version):
        admit = partial(_require, admission)
        return store.promote(model, version, by=by, reason=reason, admit=admit, over=over)


def rollback(
    home: Path,
    model: str,
    to: str | None = None,
    *,
    by: str,
    reason: str,
    admission: Admission,
    since: Pointer | None = None,
) -> Move:
    """Go back to the version kept warm; see `PointerStore.rollback`.

    Args:
        home: Whose production it is.
        model: The domain model.
        to: A version in full or short form; None for the previous one.
        by: Who does it.
        reason: Why.
        admission: Asked before anything moves.
        since: The pointer on which this was decided; None asks for no comparison.

    Raises:
        AdmissionError: Its evidence does not hold.
        PointerError: There is nothing to go back to, it is not warm, or production has moved since.
    """

    def admit(version: Version) -> None:
        if since is not None and (now := store.pointer(model)) != since:
            raise PointerError(
                f"{version.version} is not production: while it was started, production moved to "
                f"{now.current if now else 'nothing'}; look at it and try again."
            )
        _require(admission, version)

    with PointerStore(home) as store, awake(home, store, model, to):
        return store.rollback(model, to, by=by, reason=reason, admit=admit)


def _require(admission: Admission, version: Version) -> None:
    require_warm(version)
    admission.to_move(version)
