"""Describes the versions and the hardware that a step ran on.

Invariant: it names what the adapter's bytes depend on, and nothing that identifies the machine's
owner: no host name, no path, no user.
"""

import platform
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import trl


def environment() -> dict[str, Any]:
    """Versions and hardware that the adapter's bytes depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "peft": peft.__version__,
        "cpu": _processor(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
