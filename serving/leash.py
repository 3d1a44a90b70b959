"""The last step before a supervised program: `python -I -S leash.py SPEC.json`, then exec.

It becomes the program (no process of its own is left), after it has made sure that:
- the program dies with its supervisor, so that none survives as an orphan that holds a port;
- what an earlier life of the same program left behind (a child whose parent was killed) is gone,
  so that a restarted replica finds its memory and its port free;
- no signal is ignored or blocked because of who started the supervisor.

Standard library only, no import of the project: it starts in some 30 ms and cannot break with it.
"""

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

MARK = "FTDM_PROGRAM"
_PR_SET_PDEATHSIG = 1
_KILL_WAIT_S = 5.0


def marked_processes(mark: str) -> list[int]:
    """Return the ids of this user's processes whose environment carries the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in variables and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def kill_leftovers(mark: str) -> list[int]:
    """Kill every process that carries the mark and wait until it is gone; returns their ids."""
    killed: set[int] = set()
    end = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < end:
        alive = marked_processes(mark)
        if not alive:
            break
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.add(pid)
        time.sleep(0.02)
    return sorted(killed)


def _die_with_parent() -> None:
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call took effect.
    if os.getppid() != parent or not _is_supervisor(parent):
        raise SystemExit("the supervisor is gone, so this program does not start")


def _is_supervisor(pid: int) -> bool:
    try:
        return b"supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _restore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def main(path: str) -> None:
    """Become the program that the file describes."""
    spec = json.loads(Path(path).read_text(encoding="utf-8"))
    _die_with_parent()
    _restore_signals()
    if spec["clears_leftovers"]:
        kill_leftovers(spec["mark"])
    os.chdir(spec["folder"])
    environment = {**os.environ, **spec["env"], MARK: spec["mark"]}
    try:
        os.execvpe(spec["argv"][0], spec["argv"], environment)  # noqa: S606 - that is its purpose
    except OSError as error:
        raise SystemExit(f"cannot start {spec['argv'][0]}: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1])
