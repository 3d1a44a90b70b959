"""Where serving keeps its running state, all of it under one home folder.

`serving.db` is the truth (pointer, versions, history, API keys), or the Postgres that
`FTDM_DATABASE_URL` names for several homes (`serving.database`); `run/` (sockets, what the
supervisor was told) and `logs/` are derived from it and may be lost. `run/` is for its owner only.
"""

import fcntl
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# A unix socket's path may hold 107 bytes; the supervisor binds a longer temporary name first.
_LONGEST_SOCKET_PATH = 92
# Where the gateway keeps answers, if not in the store that is started beside it. A variable, not an
# argument: an address may hold a password.
CACHE_VARIABLE = "FTDM_CACHE_URL"
# The Postgres that several machines share, if this home has no SQLite of its own. For the same
# reason a variable.
DATABASE_VARIABLE = "FTDM_DATABASE_URL"


class HomeError(Exception):
    """The home folder cannot be used; the message says why."""


def interpreter() -> Path:
    """Return this environment's Python under one fixed name.

    `sys.executable` is `python` or `python3.11`, as the caller was started; a program whose command
    line differed by that alone would be replaced, that is stopped, for nothing.
    """
    fixed = Path(sys.prefix) / "bin" / "python"
    return fixed if fixed.exists() else Path(sys.executable)


@dataclass(frozen=True)
class Home:
    """The paths inside one home folder (absolute)."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Home":
        """Return the home at `folder`, which need not exist yet.

        Raises:
            HomeError: The path holds what the supervisor's configuration cannot.
        """
        absolute = folder.absolute()
        if any(character in str(absolute) for character in "%;#\n"):
            raise HomeError(
                f"The home folder {absolute} has `%`, `;`, `#` or a line end in its path: "
                "choose another."
            )
        return cls(absolute)

    def make(self) -> "Home":
        """Create the folders and return this home."""
        for folder in (self.run, self.programs, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.run.chmod(0o700)
        return self

    @property
    def database(self) -> Path:
        """The SQLite file with pointer, versions, history and API keys."""
        return self.folder / "serving.db"

    @property
    def own_database(self) -> Path:
        """Says by being there that this home shares no database, whatever the environment says."""
        return self.folder / "own-database"

    @property
    def local_key(self) -> Path:
        """The text of the API key for this home's own use; only its owner can read it."""
        return self.folder / "local.key"

    @property
    def request_log(self) -> Path:
        """The SQLite file with one row for every answer; its head lies beside it."""
        return self.folder / "log" / "requests.db"

    @property
    def input_secret(self) -> Path:
        """The secret of the digests in the request log; only its owner can read it."""
        return self.folder / "log" / "requests.secret"

    @property
    def cache_secret(self) -> Path:
        """The secret that seals the result cache; only its owner can read it."""
        return self.folder / "cache.secret"

    @property
    def run(self) -> Path:
        """Sockets, locks and what the supervisor was told."""
        return self.folder / "run"

    @property
    def programs(self) -> Path:
        """One pair of files for each supervised program."""
        return self.run / "programs"

    @property
    def logs(self) -> Path:
        """Rotated log files, one for each program."""
        return self.folder / "logs"

    @property
    def socket(self) -> Path:
        """The supervisor's socket; in the temporary folder when the home's path is too long."""
        inside = self.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
            return inside
        mark = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"ftdm-{os.getuid()}-{mark}" / "s.sock"

    @contextmanager
    def lock(self, name: str, timeout_s: float = 60.0) -> Iterator[None]:
        """Hold a lock between processes; it falls with its holder.

        Raises:
            HomeError: Another process held it for `timeout_s` seconds.
        """
        self.make()
        path = self.run / f"{name}.lock"
        end = time.monotonic() + timeout_s
        with path.open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise HomeError(
                            f"Another process has held {path} for {timeout_s:.0f} s: "
                            "wait for it, or end it, and try again."
                        ) from None
                    time.sleep(0.05)
            yield
