"""The frame that the four programs share: arguments, reporter, exit codes, the tie to the parent.

Invariant: whatever goes wrong ends in one sentence on standard error and an exit code: 2 for the
configuration and the input, 1 for everything else, 143 when the parent stopped or died.
"""

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gpu_steps.config import ConfigError, StepError, read_config
from gpu_steps.parent import die_with_parent, stop_on_sigterm
from gpu_steps.reporting import Reporter, open_reporter

C = TypeVar("C")

# Read by the libraries when they are loaded, which is after this. Threads that sleep while they
# wait: beside any other load, threads that spin made a training step 2.4 to 5 times slower.
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def run_program(
    name: str,
    kind: type[C],
    step: Callable[[C, Reporter], None],
    arguments: list[str] | None = None,
) -> int:
    """Run `step` with the configuration that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m gpu_steps.{name}")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of the step")
    path: Path = parser.parse_args(arguments).config
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns when imported
    stop_on_sigterm()
    die_with_parent()
    try:
        config = read_config(path, kind)
        started = time.monotonic()
        with open_reporter(name) as reporter:
            step(config, reporter)
            reporter.log(f"done in {time.monotonic() - started:.0f} s")
    except ConfigError as error:
        return _fail(name, str(error), 2)
    except StepError as error:
        return _fail(name, str(error), 1)
    except Exception as error:  # the last frame: a trace for us, a sentence for all
        traceback.print_exc()
        return _fail(name, f"unexpected {type(error).__name__}: {error}", 1)
    return 0


def _fail(name: str, message: str, code: int) -> int:
    # One line: whoever started the step takes the last line for the reason.
    sys.stderr.write(f"{name}: error: {' '.join(message.split())}\n")
    return code
