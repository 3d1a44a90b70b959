"""Supervised programs: what supervisord (`serving.supervisord`) is told to keep running.

Invariants:
- a program is started through leash.py, so it dies with supervisord and clears what its own
  earlier life left behind; if supervisord itself is killed, the next call starts it again, and it
  starts every program that it was last told to run;
- a program that ends is started again without limit, with growing pauses while it fails early;
- `put` is idempotent: the same program is left alone, a changed one is replaced;
- arguments and environment are written to a private file, never into a command line that others
  can read; changes by several processes at once are taken one after the other (a lock).
"""

import json
import re
import shlex
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.home import Home, interpreter
from serving.leash import kill_leftovers
from serving.private_file import write_private
from serving.supervisord import CALL_TIMEOUT_S, SupervisionError, Supervisord, alive

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LEASH = Path(__file__).with_name("leash.py")
_PROGRAM_CONFIG = """[program:{name}]
command = {command}
autostart = true
autorestart = true
startsecs = 2
startretries = 1000000
stopsignal = TERM
stopwaitsecs = {stop_timeout}
stopasgroup = {whole_group}
killasgroup = true
redirect_stderr = true
stdout_logfile = {log}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""


@dataclass(frozen=True)
class Program:
    """A program to keep running.

    Attributes:
        name: Unique in its home; letters, digits, `.`, `_`, `-`.
        argv: The command line.
        env: Variables set on top of the supervisor's own environment.
        folder: Working folder; None means the home.
        stop_timeout_s: How long it may take to end before it is killed.
        clears_leftovers: Whether processes that an earlier life left behind are killed at start.
        stops_whole_group: Whether a stop signals its children as well.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    stop_timeout_s: int = 20
    clears_leftovers: bool = True
    stops_whole_group: bool = True


@dataclass(frozen=True)
class ProgramStatus:
    """What the supervisor says of a program; `state` is its own word (RUNNING, BACKOFF, …)."""

    name: str
    state: str
    pid: int
    uptime_s: int
    log: Path


class Supervisor:
    """The supervisor of one home."""

    def __init__(self, home: Path) -> None:
        self.home = Home.at(home)
        self._daemon = Supervisord(self.home)

    def is_running(self) -> bool:
        """Tell whether supervisord answers."""
        return self._daemon.answers()

    def ensure_running(self, timeout_s: float = 20.0) -> None:
        """Start supervisord unless it answers.

        Raises:
            SupervisionError: It does not come up in time.
        """
        if self.is_running():
            return
        with self.home.lock("supervisor"):
            if not self.is_running():
                self._daemon.kill()
                self._daemon.start(timeout_s)

    def put(self, program: Program) -> None:
        """Keep this program running from now on; replaces another of the same name.

        Raises:
            SupervisionError: The supervisor refuses it.
        """
        if not _NAME.fullmatch(program.name):
            raise SupervisionError(
                f"{program.name!r} is no program name: letters, digits, `.`, `_`, `-`."
            )
        self.ensure_running()
        with self.home.lock("supervisor"):
            spec, config = self._files(program.name)
            wanted = json.dumps(self._spec(program), indent=1, sort_keys=True)
            wanted_config = self._config(program, spec)
            known = self._processes().get(program.name)
            if known and _holds(spec, wanted) and _holds(config, wanted_config):
                if known["statename"] not in ("RUNNING", "STARTING", "BACKOFF"):
                    self._daemon.call("startProcess", program.name, False)
                return
            if known:
                self._remove(program.name, program.stop_timeout_s)
            write_private(spec, wanted)
            write_private(config, wanted_config)
            try:
                self._daemon.call("reloadConfig")
                self._daemon.call("addProcessGroup", program.name)
            except SupervisionError:
                # A file that supervisord cannot read would be in the way of every later change.
                self._forget(program.name)
                raise

    def remove(self, name: str, stop_timeout_s: float = 30.0) -> None:
        """Stop a program for good; does nothing when it is not there."""
        with self.home.lock("supervisor"):
            if self.is_running() and name in self._processes():
                self._remove(name, stop_timeout_s)
            self._forget(name)

    def statuses(self) -> dict[str, ProgramStatus]:
        """Return every program by name; empty when supervisord is not running."""
        if not self.is_running():
            return {}
        return {
            name: ProgramStatus(
                name,
                str(one["statename"]),
                int(one["pid"]),
                max(0, int(one["now"]) - int(one["start"])) if one["pid"] else 0,
                Path(one["stdout_logfile"]),
            )
            for name, one in self._processes().items()
        }

    def shutdown(self, timeout_s: float = 60.0, first: tuple[str, ...] = ()) -> None:
        """Stop every program and supervisord, and forget what it was told to run.

        Args:
            timeout_s: After that long, what is left is killed.
            first: Programs to stop before the others.
        """
        end = time.monotonic() + timeout_s
        with self.home.lock("supervisor"):
            pid = self._daemon.pid()
            if self.is_running():
                self._stop_all(first, end)
                self._daemon.call("shutdown")
            while pid and alive(pid) and time.monotonic() < end:
                time.sleep(0.05)
            self._daemon.kill()
            for spec in self.home.programs.glob("*.json"):
                kill_leftovers(spec.with_suffix(".group"))
                self._forget(spec.stem)
            if self.home.socket.parent != self.home.run and self.home.socket.parent.is_dir():
                shutil.rmtree(self.home.socket.parent, ignore_errors=True)

    def _stop_all(self, first: tuple[str, ...], end: float) -> None:
        """Ask all to stop at once: on its way out supervisord would wait for one after another."""
        known = self._processes()
        for name in first:
            if name in known:
                left = max(1.0, end - time.monotonic())
                self._daemon.call("stopProcessGroup", name, True, timeout_s=left)
        self._daemon.call("stopAllProcesses", False)
        while time.monotonic() < end:
            if not any(one["pid"] for one in self._processes().values()):
                return
            time.sleep(0.05)

    def log_tail(self, name: str, lines: int = 20) -> str:
        """Return the last lines of a program's log, or of the supervisor's when it has none."""
        path = self._log(name)
        if not path.is_file():
            path = self._log("supervisord")
        if not path.is_file():
            return "(no log)"
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def _remove(self, name: str, stop_timeout_s: float) -> None:
        self._daemon.call("stopProcessGroup", name, True, timeout_s=stop_timeout_s + CALL_TIMEOUT_S)
        self._daemon.call("removeProcessGroup", name)

    def _processes(self) -> dict[str, dict[str, Any]]:
        return {str(one["name"]): one for one in self._daemon.call("getAllProcessInfo")}

    def _files(self, name: str) -> tuple[Path, Path]:
        return self.home.programs / f"{name}.json", self.home.programs / f"{name}.conf"

    def _log(self, name: str) -> Path:
        return self.home.logs / f"{name}.log"

    def _forget(self, name: str) -> None:
        for suffix in (".conf", ".json", ".group"):
            (self.home.programs / f"{name}{suffix}").unlink(missing_ok=True)

    def _spec(self, program: Program) -> dict[str, object]:
        return {
            "argv": list(program.argv),
            "env": program.env,
            "folder": str(program.folder or self.home.folder),
            "group_file": str(self.home.programs / f"{program.name}.group"),
            "clears_leftovers": program.clears_leftovers,
        }

    def _config(self, program: Program, spec: Path) -> str:
        command = shlex.join([str(interpreter()), "-I", "-S", str(_LEASH), str(spec)])
        return _PROGRAM_CONFIG.format(
            name=program.name,
            command=_escape(command),
            stop_timeout=program.stop_timeout_s,
            whole_group=str(program.stops_whole_group).lower(),
            log=self._log(program.name),
        )


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
