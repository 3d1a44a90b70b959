"""Trains with little address space left, so that allocations really fail; run as a program.

`python gpu_limited_memory.py WARM CONFIG MEGABYTES` trains WARM first (what loads late is loaded
then), sets the limit, and does what `python -m gpu_steps.train --config CONFIG` does.
"""

import resource
import sys
from pathlib import Path

from gpu_steps.config import read_config
from gpu_steps.program import run_program
from gpu_steps.reporting import RecordingReporter
from gpu_steps.train import Train, train

warm, config, megabytes = sys.argv[1:]
train(read_config(Path(warm), Train), RecordingReporter())
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(megabytes) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(run_program("train", Train, train, ["--config", config]))
