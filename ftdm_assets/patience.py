"""Asking a service again that is out of reach for a while; standard library only."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class OutOfReachError(Exception):
    """What may pass by itself did not pass in time; its cause is the last error."""


def patiently(
    call: Callable[[], T],
    *,
    passes: Callable[[Exception], bool],
    say: Callable[[str], None],
    seconds: float,
    pause: float,
) -> T:
    """Return what a call returns; it is made again while its error may pass by itself.

    Args:
        call: What is asked.
        passes: Says whether an error may pass; another one is raised as it is.
        say: Is told each error that is waited out, in one line.
        seconds: How long errors are waited out.
        pause: Seconds between two tries.

    Raises:
        OutOfReachError: It took longer; the message is the last error in one line.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Exception as error:
            if not passes(error):
                raise
            if time.monotonic() >= end:
                raise OutOfReachError(one_line(error)) from error
            say(one_line(error))
        time.sleep(pause)


def one_line(error: Exception) -> str:
    """Return an error in one line."""
    return " ".join(str(error).split()).rstrip(".")
