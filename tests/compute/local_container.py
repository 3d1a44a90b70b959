"""A container's command as a process of this machine, for servers that stand in for a service."""

import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_KILL_SECONDS = 30


@dataclass
class LocalContainer:
    """The process with what it has written, each line with its time; `folder` is its disk."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    lines: list[tuple[datetime, str]] = field(default_factory=list)

    @staticmethod
    def run(command: list[str], environment: dict[str, str], folder: Path) -> "LocalContainer":
        """Start it; ``python`` is the one that runs the tests."""
        assert command[0] == "python"
        folder.mkdir(parents=True)
        return LocalContainer.started_as([sys.executable, *command[1:]], environment, folder)

    @staticmethod
    def started_as(argv: list[str], environment: dict[str, str], folder: Path) -> "LocalContainer":
        """Start a command as it is, in a folder that is there."""
        process = subprocess.Popen(
            argv,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        found = LocalContainer(folder, process)
        threading.Thread(target=found._read, daemon=True).start()
        return found

    def wait(self) -> int:
        code = self.process.wait()
        while self.ended is None:
            threading.Event().wait(0.01)
        return 128 - code if code < 0 else code

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL when that did not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            killer = threading.Timer(_KILL_SECONDS, self.process.kill)
            killer.daemon = True
            killer.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append((datetime.now(UTC), line.decode().rstrip("\n")))
        self.process.wait()
        self.ended = datetime.now(UTC)
