"""Runs whose process was killed: Dagster still calls them started, and their pool slots are held.

A run that ``ftdm run`` started carries its process's id; a run of the UI dies with the UI. Both
are closed before anything new starts, so that nothing waits for the dead.
"""

import os
import socket
from contextlib import suppress

import dagster as dg

PID_TAG = "ftdm/pid"
HOST_TAG = "ftdm/host"
_OPEN = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]


def process_tags() -> dict[str, str]:
    """Return the tags that tie a run to this process."""
    return {PID_TAG: f"{os.getpid()}:{_started(os.getpid())}", HOST_TAG: socket.gethostname()}


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs whose process is gone and free their pool slots; return their ids."""
    closed = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_OPEN)):
        if run.tags.get(HOST_TAG) != socket.gethostname() or _alive(run.tags[PID_TAG]):
            continue
        instance.report_run_failed(run, "its process was killed; `ftdm run` goes on from there")
        with suppress(NotImplementedError):
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        closed.append(run.run_id)
    return closed


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks: ids are used again, this is not."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:  # noqa: PTH123 - no path of ours
        return stream.read().rsplit(")", 1)[1].split()[19]


def _alive(tag: str) -> bool:
    pid, _, started = tag.partition(":")
    try:
        return _started(int(pid)) == started
    except (OSError, ValueError):
        return False
