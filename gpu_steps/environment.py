"""The environment of record: the versions, the hardware and the settings that a step ran with.

Invariants: `decides` holds what the adapter's bytes may depend on beside configuration, base model
and rows; `recorded` is kept for people and decides nothing. Neither identifies the machine's owner:
no host name, no path, no user, no registry.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

IMAGE_VARIABLE = "FTDM_IMAGE_DIGEST"
_PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "flash-attn", "kernels",
    "tokenizers", "safetensors", "datasets", "numpy",
)  # fmt: skip
_IMAGE_DIGEST = re.compile(r"(?:.*@)?(sha256:[0-9a-f]{64})")
_DRIVER_SECONDS = 20


def environment(model: Any, seed: int) -> dict[str, Any]:
    """Describe the environment of a run that trained `model`; every value is plain JSON."""
    return {"decides": _decides(model, seed), "recorded": _recorded()}


def package_list() -> str:
    """All installed distributions, sorted: `name==version` a line, names as PEP 503 has them."""
    found = set()
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.add(f"{re.sub(r'[-_.]+', '-', name).lower()}=={distribution.version}")
    return "".join(f"{line}\n" for line in sorted(found))


def image_digest() -> str | None:
    """Digest of the container image, as its file or launcher names it; the registry is left out."""
    found = _IMAGE_DIGEST.fullmatch(os.environ.get(IMAGE_VARIABLE, ""))
    return found.group(1) if found else None


def _decides(model: Any, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "python": platform.python_version(),
        **{name.replace("-", "_"): _version(name) for name in _PACKAGES},
        "machine": platform.machine(),
        "cpu": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **_gpu(),
        "attention": getattr(model.config, "_attn_implementation", None),
        "dtype": str(model.dtype).removeprefix("torch."),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


def _recorded() -> dict[str, Any]:
    listed = package_list()
    cuda = torch.cuda.is_available()
    return {
        "packages": {
            "count": listed.count("\n"),
            "sha256": hashlib.sha256(listed.encode()).hexdigest(),
        },
        "image_digest": image_digest(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "gpu_memory_gib": (
            round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if cuda else None
        ),
    }


def _gpu() -> dict[str, Any]:
    """The accelerator's part: all of it null on a CPU."""
    if not torch.cuda.is_available():
        names = ("gpu", "gpus", "gpu_capability", "driver", "cuda", "cudnn")
        return dict.fromkeys(names)
    return {
        "gpu": torch.cuda.get_device_name(),
        "gpus": torch.cuda.device_count(),
        "gpu_capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def driver_version(text: str) -> str | None:
    """Read the version out of the kernel's description of the driver."""
    found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)", text)
    return found.group(1) if found else None


def _driver() -> str | None:
    """Version of the GPU's driver, from the kernel or, where that is hidden, from its own tool."""
    with contextlib.suppress(OSError):
        found = driver_version(Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
        if found:
            return found
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DRIVER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout.strip() else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
