"""Fixtures: a supervisor, and a whole stack, in a home of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import stack
from serving.supervision import Supervisor
from tests.serving.serving_support import Running, free_port


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor that is not running yet; what the test leaves is stopped."""
    one = Supervisor(tmp_path / "home")
    try:
        yield one
    finally:
        one.shutdown(timeout_s=0.5)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A stack without versions; what the test leaves is stopped."""
    one = Running(tmp_path / "home", stack.Ports(free_port(), free_port(), free_port()))
    try:
        one.up()
        yield one
    finally:
        # Short: nobody waits for the routers' pause before they end.
        one.supervisor.shutdown(timeout_s=0.5)
