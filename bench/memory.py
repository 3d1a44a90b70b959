"""What a process and its children hold in memory, watched from outside."""

import contextlib
import subprocess
import time

import psutil

_EVERY_SECONDS = 0.5


def memory_of_tree(pid: int) -> float:
    """Return what a process and its children hold now, in GB; what they share counts once."""
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total / 1e9


def run_watched(command: list[str], limit_seconds: float) -> float:
    """Run a command to its end and return the most it held, in GB, read twice a second.

    Raises:
        SystemExit: if it fails or takes too long.
    """
    memory = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        ends = time.monotonic() + limit_seconds
        while process.poll() is None:
            memory = max(memory, memory_of_tree(process.pid))
            if time.monotonic() > ends:
                process.kill()
                raise SystemExit(f"{' '.join(command)} had not ended after {limit_seconds:.0f} s")
            time.sleep(_EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; see above")
    return memory
