"""Builds the test server's environment: `python -m tests.label_studio.environment FOLDER`.

Label Studio's server pins other versions than the rest, so it never shares an environment with it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from serving.environment import build_pinned, command, pip, say

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def build(folder: Path) -> None:
    """Build or complete the environment in `folder`; does nothing when it is whole."""
    build_pinned(folder, REQUIREMENTS, _install, say)


def _install(_folder: Path, python: Path, progress: Callable[[str], None]) -> None:
    progress("installing Label Studio")
    pip(python, "install", "--no-deps", "--no-compile", "--requirement", str(REQUIREMENTS))


if __name__ == "__main__":
    raise SystemExit(command(sys.argv[1:], "python -m tests.label_studio.environment", build))
