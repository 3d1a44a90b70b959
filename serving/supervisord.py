"""supervisord itself: started, asked over its XML-RPC interface on a private unix socket, killed.

Invariants:
- it is reached by this user only: its socket lies in a folder that nobody else can open;
- every call to it has a timeout;
- a process is killed as supervisord only if it was started with this home's configuration.
"""

import http.client
import os
import signal
import socket
import subprocess
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from serving.home import Home, interpreter
from serving.private_file import write_private

CALL_TIMEOUT_S = 10.0
_PING_TIMEOUT_S = 3.0
_CONFIG = """[supervisord]
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


class SupervisionError(Exception):
    """The supervisor cannot do what was asked; the message says what to do."""


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


class Supervisord:
    """The supervisord of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def answers(self) -> bool:
        """Tell whether it answers."""
        try:
            state = self.call("getState", timeout_s=_PING_TIMEOUT_S)
            return bool(state["statename"] == "RUNNING")
        except SupervisionError:
            return False

    def start(self, timeout_s: float) -> None:
        """Start it, and wait until it answers.

        Raises:
            SupervisionError: It does not come up in time.
        """
        self._home.make()
        _make_private(self._home.socket.parent)
        values = {
            "logs": self._home.logs,
            "run": self._home.run,
            "folder": self._home.folder,
            "socket": self._home.socket,
        }
        # Said only to root: without it supervisord warns at each start that it stays root.
        user = "user = root\n" if os.getuid() == 0 else ""
        config = self._home.run / "supervisord.conf"
        write_private(config, _CONFIG.format(user=user, **values))
        command = [str(interpreter()), "-m", "supervisor.supervisord", "-c", str(config)]
        done = subprocess.run(
            command,
            cwd=self._home.folder,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        end = time.monotonic() + timeout_s
        while done.returncode == 0 and time.monotonic() < end:
            if self.answers():
                return
            time.sleep(0.05)
        raise SupervisionError(
            f"supervisord did not start: {(done.stdout + done.stderr).strip() or 'no answer'} "
            f"(see {self._home.logs / 'supervisord.log'})."
        )

    def kill(self) -> None:
        """Kill one that lives but does not answer."""
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + CALL_TIMEOUT_S
            while alive(pid) and time.monotonic() < end:
                time.sleep(0.02)

    def pid(self) -> int | None:
        """Return its process, or None if it does not live."""
        try:
            pid = int((self._home.run / "supervisord.pid").read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        ours = os.fsencode(self._home.run / "supervisord.conf")
        return pid if ours in command.split(b"\0") else None

    def call(self, method: str, *arguments: object, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Return what a method of the interface answers.

        Raises:
            SupervisionError: supervisord refuses it, or does not answer in time.
        """
        transport = _Transport(self._home.socket, timeout_s)
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport, allow_none=True)
        try:
            return getattr(proxy, f"supervisor.{method}")(*arguments)
        except xmlrpc.client.Fault as error:
            raise SupervisionError(f"supervisord refuses {method}: {error.faultString}") from error
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisionError(f"supervisord does not answer {method}: {error}") from error
        finally:
            transport.close()


def alive(pid: int) -> bool:
    """Say whether a process lives; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(") ")[-1][0] != "Z"
    except OSError:
        return False


def _make_private(folder: Path) -> None:
    """Make a folder for this user only; in a shared place somebody else may have made it first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise SupervisionError(f"{folder} is open to other users: remove it and try again.")
