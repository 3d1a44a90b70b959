"""Ties a process to the life of the one that started it.

Invariant: a step, or an engine that a step started, does not outlive its parent, not even one that
was killed with SIGKILL: the kernel signals it (Linux), and a thread watches the parent's number
(everywhere). Run as a file, `python parent.py COMMAND …`, it ties itself and becomes COMMAND; it
needs the standard library only.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 1.0


class Stopped(SystemExit):
    """The step was told to stop; unwinding runs every `finally` on the way out."""


def die_with_parent(*, watch: bool = True) -> None:
    """Send this process SIGTERM when its parent dies; leave at once if it is dead already."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)
    if watch:
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent-watch").start()


def stop_on_sigterm() -> None:
    """Turn SIGTERM into an exception in the main thread, so that open folders are cleaned up."""
    signal.signal(signal.SIGTERM, _raise_stopped)


def stop(process: "subprocess.Popen[Any]", patience_s: float) -> None:
    """Tell a process of one's own to stop; end it when it has not after so many seconds."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    del frame
    raise Stopped(128 + number)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # The default first: a parent that ignores SIGTERM would hand that down through exec.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(watch=False)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the point of the file
