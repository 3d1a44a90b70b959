"""Rollbacks under load on real vLLM replicas: how long, and what it costs those who call.

Run as `python -m bench.rollback FOLDER_A FOLDER_B [--times 20] [--work FOLDER]`; each FOLDER holds
a merged model. Both are served by two replicas each (some 3 GB a replica) behind the real
gateway, callers with one kept-alive connection each ask without a pause, and
`serving.cold.rollback`, which is `ftdm rollback` without the start of a Python, goes back and
forth: first between two warm versions, then each time to one that was stopped just before.

A version is admitted unasked: what is measured is serving, the models lie in no store. With
`--work` results are kept there after every rollback, and the same command goes on with them.
"""

import argparse
import hashlib
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bench.engine_ratio import questions
from bench.kept_alive import Answered, Callers, since, turned_back
from serving import cold, moves, stack
from serving.deployment import start_version
from serving.health import answers_chat, free_port
from serving.local_key import local_key
from serving.platform import VersionSpec
from serving.pointer import PointerStore
from serving.stack_programs import Ports, gateway_url
from serving.supervision import Supervisor
from serving.versions import PointerError
from tests.serving.serving_support import VOUCHED

Kind = Literal["warm", "cold"]
MODEL, _BY = "bench", "bench"
_LONGEST, _DTYPE, _MAX_TOKENS, _QUESTIONS = 2048, "bfloat16", 8, 200
_START_S, _FIRST_ANSWER_S, _SETTLE_S = 900.0, 120.0, 3.0
_ERRORS_IN_A_ROW = 3


@dataclass(frozen=True)
class Measured:
    """One rollback; seconds count from its beginning.

    Attributes:
        moved_s: Until the pointer stood.
        answered_s: Until the first whole answer of the version gone back to.
        everywhere_s: Until every connection had one.
        answers: Whole answers until a little after; from before the stop where one is stopped.
        failed: Requests that failed in that time.
        turned_back: Answers of the old version after the new one's first, on one connection.
        why: What the first of those said.
        error: Why there was no rollback; blank if there was.
    """

    kind: Kind
    to_version: str
    moved_s: float = 0.0
    answered_s: float = 0.0
    everywhere_s: float = 0.0
    answers: int = 0
    failed: int = 0
    turned_back: int = 0
    why: str = ""
    error: str = ""


class Results:
    """What was measured so far, a line each, in a file that a killed run leaves whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows = [Measured(**json.loads(line)) for line in lines if line.endswith("}")]

    def add(self, row: Measured) -> None:
        """Keep one more."""
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def good(self, kind: Kind) -> list[Measured]:
        """Return those that took place."""
        return [row for row in self.rows if row.kind == kind and not row.error]


def say(message: str) -> None:
    """Print a line of progress with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


@contextmanager
def production(home: Path, folders: Sequence[Path], replicas: int) -> Iterator[str]:
    """Serve both models, the second in production; yields the gateway's address."""
    ports = Ports(free_port(), free_port(), free_port())
    try:
        stack.up(home, admission=VOUCHED, ports=ports, timeout_s=_START_S, progress=say)
        for number, folder in enumerate(folders, start=1):
            _put(home, f"{MODEL}-v{number:04d}", folder, replicas)
        yield gateway_url(ports)
    finally:
        stack.down(home, ports=ports)


def _put(home: Path, version: str, folder: Path, replicas: int) -> None:
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    spec = VersionSpec(MODEL, version, digest, folder, _LONGEST, _DTYPE)
    running = start_version(
        home,
        spec,
        admission=VOUCHED,
        replicas=replicas,
        timeout_s=_START_S,
        progress=say,
    )
    # In production the smoke test has asked every replica before.
    for replica in running.version.replicas:
        answers_chat(replica.url, running.version.served_name, _FIRST_ANSWER_S)
    moves.promote(home, MODEL, version, by=_BY, reason=_BY, admission=VOUCHED)


def measure(home: Path, kind: Kind, groups: Sequence[Callers]) -> Measured:
    """Roll back once while the callers ask."""
    with PointerStore(home) as store:
        pointer = store.pointer(MODEL)
    assert pointer is not None
    assert pointer.previous is not None
    to, opened = pointer.previous, time.monotonic()
    if kind == "cold":
        stop(home, to)
    connections = [answers for group in groups for answers in group.connections]
    began = time.monotonic()
    try:
        made = cold.rollback(home, MODEL, by=_BY, reason=_BY, admission=VOUCHED, progress=say)
    except PointerError as error:
        return Measured(kind, to, error=str(error))
    firsts = _firsts(connections, to, began)
    time.sleep(_SETTLE_S)
    window = [since(list(answers), began) for answers in connections]
    told = [one for answers in connections for one in since(list(answers), opened)]
    return Measured(
        kind,
        to,
        moved_s=round(made.seconds, 3),
        answered_s=round(min(firsts) - began, 3) if firsts else _FIRST_ANSWER_S,
        everywhere_s=round(max(firsts) - began, 3) if firsts else _FIRST_ANSWER_S,
        answers=sum(not one.failure for one in told),
        failed=sum(bool(one.failure) for one in told),
        why=next((one.failure for one in told if one.failure), ""),
        turned_back=sum(len(turned_back(answers, to)) for answers in window),
        error="" if len(firsts) == len(connections) else "not every connection was answered",
    )


def _firsts(connections: Sequence[list[Answered]], to: str, began: float) -> list[float]:
    """Wait until each connection had an answer of a version; return when."""
    end = time.monotonic() + _FIRST_ANSWER_S
    while True:
        found = [
            next((one.ended for one in since(list(answers), began) if one.version == to), None)
            for answers in connections
        ]
        firsts = [one for one in found if one is not None]
        if len(firsts) == len(connections) or time.monotonic() > end:
            return firsts
        time.sleep(0.02)


def stop(home: Path, version: str) -> None:
    """Stop a version's programs, the previous one's too, which no command would do."""
    supervisor = Supervisor(home)
    with PointerStore(home) as store:
        store.set_state(MODEL, version, "stopped")
    for name in supervisor.statuses():
        if name.startswith(f"{version}-"):
            supervisor.remove(name)
    say(f"{version} was stopped")


def run(home: Path, url: str, wanted: dict[Kind, int], results: Results, plain: int) -> None:
    """Measure what is missing yet.

    Raises:
        SystemExit: It failed several times in a row.
    """
    texts, headers = questions(_QUESTIONS), {"Authorization": f"Bearer {local_key(home)}"}
    fields = {"max_tokens": _MAX_TOKENS}
    groups = [
        Callers(url, headers, MODEL, texts, count=plain, fields=fields),
        Callers(url, headers, MODEL, texts, count=max(1, plain // 2), stream=True, fields=fields),
    ]
    with groups[0], groups[1]:
        for kind, times in wanted.items():
            errors = 0
            while len(results.good(kind)) < times:
                time.sleep(_SETTLE_S)
                row = measure(home, kind, groups)
                results.add(row)
                say(f"{kind} {len(results.good(kind))}/{times}: {row}")
                errors = errors + 1 if row.error else 0
                if errors == _ERRORS_IN_A_ROW:
                    raise SystemExit(f"{errors} failed in a row; the last: {row.error}")
    asked = sum(len(group.answers) for group in groups)
    failed = [one for group in groups for one in group.failures()]
    say(f"the whole of this run: {asked} answers, {len(failed)} failed {failed[:3]}")


def table(results: Results) -> str:
    """Return what was measured as a table in Markdown."""
    lines = ["| rollback | times | first answer, s | every connection, s | pointer moved, s "
             "| answers | failed | old after new | not done |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    kinds: tuple[Kind, ...] = ("warm", "cold")
    for kind in kinds:
        rows = results.good(kind)
        if not rows:
            continue
        spans = [
            _span([float(getattr(row, name)) for row in rows])
            for name in ("answered_s", "everywhere_s", "moved_s")
        ]
        sums = [sum(getattr(row, name) for row in rows) for name in ("answers", "failed")]
        back = sum(row.turned_back for row in rows)
        errors = sum(bool(row.error) for row in results.rows if row.kind == kind)
        cells = [kind, len(rows), *spans, *sums, back, errors]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", "Seconds are minimum / median / maximum."])


def _span(values: Sequence[float]) -> str:
    found = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.2f}" for value in found)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollback")
    parser.add_argument("folders", type=Path, nargs=2, metavar="FOLDER", help="a merged model")
    parser.add_argument("--times", type=int, default=20, help="warm rollbacks, and cold ones")
    parser.add_argument("--cold", type=int, help="cold ones, if not as many")
    parser.add_argument("--callers", type=int, default=4, help="and half as many that stream")
    parser.add_argument("--replicas", type=int, default=2, help="of each version")
    parser.add_argument("--work", type=Path, help="where to keep results and go on with them")
    options = parser.parse_args()
    # What was started must end with it, whichever way it is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    wanted: dict[Kind, int] = {
        "warm": options.times,
        "cold": options.times if options.cold is None else options.cold,
    }
    with tempfile.TemporaryDirectory(prefix="ftdm-bench-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        results = Results(work / "rollbacks.jsonl")
        if any(len(results.good(kind)) < times for kind, times in wanted.items()):
            home = work.absolute() / "home"
            with production(home, options.folders, options.replicas) as url:
                run(home, url, wanted, results, options.callers)
        print(table(results))


if __name__ == "__main__":
    main()
