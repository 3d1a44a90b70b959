"""Runs ``ftdm`` as a person does: a process of its own, in a home of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "ftdm_assets" / "models" / "support_tickets"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that it wrote."""
        return json.loads(self.out)


class Place:
    """A home and a folder of domain models."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.home, self.models = folder / "home", folder / "models"
        self.models.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"},
            "FTDM_HOME": str(self.home),
            "FTDM_MODELS": str(self.models),
            **environment,
        }

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of ``ftdm`` with these arguments."""
        return [sys.executable, "-c", "from ftdm_assets.cli import main; main()", *arguments]

    def ftdm(self, *arguments: str, timeout: float = 120) -> Done:
        """Run ``ftdm`` and wait for its end."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True, text=True, timeout=timeout, env=self.environment, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start ``ftdm`` without waiting."""
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.environment,
        )  # fmt: skip


def jsonl(rows: list[dict[str, Any]]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def labelled(count: int, label: str = "a") -> list[dict[str, Any]]:
    """Return so many different labelled texts, of two labels."""
    return [
        {
            "text": f"number {n} of {n * 7919} things in room {n * 31}",
            "label": "b" if n % 2 else label,
        }
        for n in range(count)
    ]
