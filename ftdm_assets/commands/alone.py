"""One of a kind at a time: a lock that dies with its process."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from ftdm_assets.home import home
from ftdm_assets.settings import SettingsError


@contextmanager
def alone(name: str, command: str) -> Iterator[None]:
    """Hold the lock of this name for the block.

    Raises:
        SettingsError: if another process holds it; the message names the command.
    """
    folder = home() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"another `{command}` is going; wait for it, or stop it first"
            ) from None
        yield
