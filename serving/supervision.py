"""Supervised programs: supervisord, driven over its XML-RPC interface on a private unix socket.

Invariants:
- a program is started through leash.py, so it dies with supervisord and clears what its own
  earlier life left behind; if supervisord itself is killed, the next call starts it again, and it
  starts every program that it was last told to run;
- a program that ends is started again without limit, with growing pauses while it fails early;
- `put` is idempotent: the same program is left alone, a changed one is replaced;
- arguments and environment are written to a private file, never into a command line that others
  can read; changes by several processes at once are taken one after the other (a lock);
- every call to supervisord has a timeout.
"""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import xmlrpc.client
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.home import Home, interpreter
from serving.leash import kill_leftovers
from serving.private_file import write_private

_CALL_TIMEOUT_S = 10.0
_PING_TIMEOUT_S = 3.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LEASH = Path(__file__).with_name("leash.py")
_MAIN_CONFIG = """[supervisord]
logfile = {logs}/supervisord.log
logfile_maxbytes = 5MB
logfile_backups = 2
loglevel = info
pidfile = {run}/supervisord.pid
childlogdir = {logs}
directory = {folder}
{user}
[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}

[include]
files = programs/*.conf
"""
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


class SupervisionError(Exception):
    """The supervisor cannot do what was asked; the message says what to do."""


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


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path, self._timeout_s = path, timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        self._connection = host, _Connection(self._path, self._timeout_s)
        return self._connection[1]


class Supervisor:
    """The supervisor of one home."""

    def __init__(self, home: Path) -> None:
        self.home = Home.at(home)

    def is_running(self) -> bool:
        """Tell whether supervisord answers."""
        try:
            state = self._call("getState", timeout_s=_PING_TIMEOUT_S)
            return bool(state["statename"] == "RUNNING")
        except SupervisionError:
            return False

    def ensure_running(self, timeout_s: float = 20.0) -> None:
        """Start supervisord unless it answers.

        Raises:
            SupervisionError: It does not come up in time.
        """
        if self.is_running():
            return
        with self.home.lock("supervisor"):
            if not self.is_running():
                self._kill_daemon()
                self._start_daemon(timeout_s)

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
                    self._call("startProcess", program.name, False)
                return
            if known:
                self._remove(program.name, program.stop_timeout_s)
            write_private(spec, wanted)
            write_private(config, wanted_config)
            try:
                self._call("reloadConfig")
                self._call("addProcessGroup", program.name)
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
            pid = self._daemon_pid()
            if self.is_running():
                self._stop_all(first, end)
                self._call("shutdown")
            while pid and _alive(pid) and time.monotonic() < end:
                time.sleep(0.05)
            self._kill_daemon()
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
                self._call("stopProcessGroup", name, True, timeout_s=left)
        self._call("stopAllProcesses", False)
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

    def _start_daemon(self, timeout_s: float) -> None:
        self.home.make()
        _make_private(self.home.socket.parent)
        values = {
            "logs": self.home.logs,
            "run": self.home.run,
            "folder": self.home.folder,
            "socket": self.home.socket,
        }
        # Said only to root: without it supervisord warns at each start that it stays root.
        user = "user = root\n" if os.getuid() == 0 else ""
        config = self.home.run / "supervisord.conf"
        write_private(config, _MAIN_CONFIG.format(user=user, **values))
        command = [str(interpreter()), "-m", "supervisor.supervisord", "-c", str(config)]
        done = subprocess.run(
            command,
            cwd=self.home.folder,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        end = time.monotonic() + timeout_s
        while done.returncode == 0 and time.monotonic() < end:
            if self.is_running():
                return
            time.sleep(0.05)
        raise SupervisionError(
            f"supervisord did not start: {(done.stdout + done.stderr).strip() or 'no answer'} "
            f"(see {self.home.logs / 'supervisord.log'})."
        )

    def _kill_daemon(self) -> None:
        """Kill a supervisord that lives but does not answer."""
        pid = self._daemon_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + _CALL_TIMEOUT_S
            while _alive(pid) and time.monotonic() < end:
                time.sleep(0.02)

    def _daemon_pid(self) -> int | None:
        try:
            pid = int((self.home.run / "supervisord.pid").read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        ours = os.fsencode(self.home.run / "supervisord.conf")
        return pid if ours in command.split(b"\0") else None

    def _remove(self, name: str, stop_timeout_s: float) -> None:
        self._call("stopProcessGroup", name, True, timeout_s=stop_timeout_s + _CALL_TIMEOUT_S)
        self._call("removeProcessGroup", name)

    def _processes(self) -> dict[str, dict[str, Any]]:
        return {str(one["name"]): one for one in self._call("getAllProcessInfo")}

    def _call(self, method: str, *arguments: object, timeout_s: float = _CALL_TIMEOUT_S) -> Any:
        transport = _Transport(self.home.socket, timeout_s)
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport, allow_none=True)
        try:
            return getattr(proxy, f"supervisor.{method}")(*arguments)
        except xmlrpc.client.Fault as error:
            raise SupervisionError(f"supervisord refuses {method}: {error.faultString}") from error
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisionError(f"supervisord does not answer {method}: {error}") from error
        finally:
            transport.close()

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


def _make_private(folder: Path) -> None:
    """Make a folder for this user only; in a shared place somebody else may have made it first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise SupervisionError(f"{folder} is open to other users: remove it and try again.")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(") ")[-1][0] != "Z"
    except OSError:
        return False


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
