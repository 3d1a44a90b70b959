"""The container's command in a SageMaker training job: ``python -m gpu_steps.sagemaker_entry``.

Invariants: a step runs only on the very bytes that the orchestrator named (the hyperparameter
``step`` is the digest of step.json, and step.json holds the digests of all inputs); what it leaves
in the model folder is listed with its digests; an error ends in one sentence in output/failure,
which SageMaker hands on as the failure's reason; SIGTERM stops the step first.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import ConfigError, StepError, parse
from gpu_steps.output import write_json
from gpu_steps.parent import stop, stop_on_sigterm

ROOT_VARIABLE = "FTDM_ML_ROOT"
RESULT = "result"
DIGESTS = "digests.json"
_STEP = "step"
_FAILURE_CHARACTERS = 1024
_STOP_SECONDS = 100.0  # SageMaker kills 120 s after SIGTERM.


@dataclass(frozen=True)
class Input:
    """One input: the channel of its name holds exactly these files; `folder`: it is the channel."""

    folder: bool
    files: dict[str, str]


@dataclass(frozen=True)
class Step:
    """step.json: a program, its settings without places, and its inputs by their keys."""

    program: str
    settings: dict[str, Any]
    inputs: dict[str, Input]


def main() -> int:
    """Run the step of this job; return the exit code."""
    root = Path(os.environ.get(ROOT_VARIABLE) or "/opt/ml")
    stop_on_sigterm()
    try:
        step, digest = read_step(root)
        config = configuration(step, root)
        run_step(step.program, config)
        listed = {"step": digest, "files": digests(root / "model" / RESULT)}
        write_json(root / "model" / DIGESTS, listed)
    except (ConfigError, StepError) as error:
        return _fail(root, str(error))
    except OSError as error:
        return _fail(root, f"unexpected {type(error).__name__}: {error}")
    return 0


def read_step(root: Path) -> tuple[Step, str]:
    """Read step.json and its digest, which the hyperparameters name.

    Raises:
        ConfigError: it is another one, or cannot be understood.
    """
    parameters = json.loads((root / "input/config/hyperparameters.json").read_text("utf-8"))
    path = root / "input/data" / _STEP / "step.json"
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != parameters.get(_STEP):
        msg = f"{path.name}: its digest is {digest}, the job names {parameters.get(_STEP)}; "
        raise ConfigError(msg + "somebody has changed it in the bucket.")
    document = json.loads(content)
    settings = document.pop("settings", {})
    step = parse({**document, "settings": {}}, Step, path.name)
    return Step(step.program, settings, step.inputs), digest


def configuration(step: Step, root: Path) -> dict[str, Any]:
    """Return the step's configuration with the places of this machine.

    Raises:
        ConfigError: an input's files are not those that step.json names.
    """
    places: dict[str, str] = {}
    for name, wanted in step.inputs.items():
        channel = root / "input/data" / name
        _require_equal(name, digests(channel), wanted.files)
        places[name] = str(channel if wanted.folder else channel / next(iter(wanted.files)))
    output, work = root / "model" / RESULT, root / "checkpoints"
    return {**step.settings, **places, "output": str(output), "work": str(work)}


def _require_equal(name: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    different = sorted(file for file in {*found, *wanted} if found.get(file) != wanted.get(file))
    if different:
        raise ConfigError(
            f"channel {name}: {different[0]} is {found.get(different[0], 'absent')}, expected "
            f"{wanted.get(different[0], 'no such file')}; remove the input from the bucket, it "
            "is uploaded anew."
        )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder by its relative name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def run_step(program: str, config: Mapping[str, Any]) -> None:
    """Run a program of this package as a process of its own.

    Raises:
        StepError: with its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        write_json(file, dict(config))
        process = subprocess.Popen(
            [sys.executable, "-m", f"gpu_steps.{program}", "--config", str(file)],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        last = _shown_until_its_end(process)
    if process.returncode < 0:
        msg = f"{program}: was killed by signal {-process.returncode}; 9 mostly means that the "
        raise StepError(msg + "machine's memory was too small.")
    if process.returncode:
        raise StepError(last or f"{program}: exit code {process.returncode}")


def _shown_until_its_end(process: "subprocess.Popen[str]") -> str:
    """Hand standard error on; return its last line. Whoever stops this stops the step first."""
    last = ""
    try:
        for line in process.stderr or ():
            sys.stderr.write(line)
            sys.stderr.flush()
            last = line.strip() or last
        process.wait()
    except BaseException:
        stop(process, _STOP_SECONDS)
        raise
    return last


def _fail(root: Path, message: str) -> int:
    text = " ".join(message.split())
    sys.stderr.write(f"sagemaker_entry: error: {text}\n")
    failure = root / "output" / "failure"
    failure.parent.mkdir(parents=True, exist_ok=True)
    failure.write_text(text[:_FAILURE_CHARACTERS], encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main())
