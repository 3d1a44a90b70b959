"""Starts `python -m gpu_steps.train` many times without paying for its imports each time.

Reads configuration paths from standard input; for each it forks a process that does what
`python -m gpu_steps.train --config PATH` does, and writes the process number, then its wait status.
"""

import os
import runpy
import sys

from gpu_steps import trainer, training

assert training
trainer._REPORT_SECONDS = 0.0


def _become(path: str) -> None:
    sys.argv = ["train", "--config", path]
    os.dup2(os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    code: object = 1
    try:
        runpy.run_module("gpu_steps.train", run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code
    finally:
        os._exit(code if isinstance(code, int) else 1)


for line in sys.stdin:
    number = os.fork()
    if number == 0:
        _become(line.strip())
    for answer in (number, None):
        sys.stdout.write(f"{answer or os.waitpid(number, 0)[1]}\n")
        sys.stdout.flush()
