"""The last step before a supervised program: `python -I -S leash.py SPEC.json`, then exec.

It becomes the program (no process of its own is left), after it has made sure that:
- the program dies with its supervisor, so that none survives as an orphan that holds a port;
- what an earlier life of the same program left behind is gone: vLLM's engine processes outlive a
  killed API server and would keep gigabytes, so a program's process group is written down at its
  start, and whoever is left in it is killed before the next;
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

_PR_SET_PDEATHSIG = 1
_KILL_WAIT_S = 5.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def record_group(path: Path) -> None:
    """Write down this process's group, by which its children are found when it is gone."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    record = {"boot": _boot(), "group": os.getpid(), "session": os.getsid(0)}
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(path)


def kill_leftovers(path: Path) -> list[int]:
    """Kill every process that is left in a recorded group; returns their ids.

    A group's number is not given again while a member lives; a number that was given again after
    a reboot, or to a group of another session, is not the recorded one.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if record["boot"] != _boot():
        return []
    killed: set[int] = set()
    end = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < end:
        alive = _members(record["group"], record["session"])
        if not alive:
            break
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
            killed.add(pid)
        time.sleep(0.02)
    return sorted(killed)


def _members(group: int, session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold anything: state, parent, group, session.
            fields = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            state, _, its_group, its_session = fields.rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if state != "Z" and (int(its_group), int(its_session)) == (group, session):
            found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


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
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"supervisor.supervisord" in command


def _restore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def main(path: str) -> None:
    """Become the program that the file describes."""
    spec = json.loads(Path(path).read_text(encoding="utf-8"))
    _die_with_parent()
    _restore_signals()
    group = Path(spec["group_file"])
    if spec["clears_leftovers"]:
        kill_leftovers(group)
    record_group(group)
    os.chdir(spec["folder"])
    environment = {**os.environ, **spec["env"]}
    try:
        os.execvpe(spec["argv"][0], spec["argv"], environment)  # noqa: S606 - that is its purpose
    except OSError as error:
        raise SystemExit(f"cannot start {spec['argv'][0]}: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1])
