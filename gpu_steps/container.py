"""What every container of a remote job does, whoever runs it and however the files come.

Invariants: a step runs only on the very bytes that the orchestrator named (a job names the digest
of step.json, and step.json holds the digests of all inputs); what it leaves in the model folder is
listed with its digests; an error is one sentence; SIGTERM stops the step first.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import ConfigError, StepError, parse
from gpu_steps.output import write_json
from gpu_steps.parent import stop, stop_on_sigterm

ROOT_VARIABLE = "FTDM_ML_ROOT"
RESULT = "result"
DIGESTS = "digests.json"
FAILURE = "failure"
STEP = "step"
BUCKET_COMMAND = ("python", "-m", "gpu_steps.bucket_entry")
JOB_VARIABLE = "FTDM_JOB"
FAILURE_FILE_VARIABLE = "FTDM_FAILURE_FILE"
_FAILURE_CHARACTERS = 1024


@dataclass(frozen=True)
class BucketJob:
    """FTDM_JOB: what a container that fetches its files itself has to know, as JSON.

    `step` is the digest of step.json; `channels` names for each input, and for the step, what lies
    below which address; `checkpoints` and `output` are addresses too. All of them end in a slash.
    """

    step: str
    channels: dict[str, str]
    checkpoints: str
    output: str
    kms_key: str | None = None


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


def root() -> Path:
    """Return the folder that inputs, checkpoints and results lie in, laid out as SageMaker does."""
    return Path(os.environ.get(ROOT_VARIABLE) or "/opt/ml")


def perform(root: Path, named: str, stop_seconds: float) -> None:
    """Run the step that lies in `root`; leave its result and the list of it in `root`/model.

    Raises:
        ConfigError: what lies there is not what the job names.
        StepError: the step failed; with its last words.
    """
    step = read_step(root, named)
    run_step(step.program, configuration(step, root), stop_seconds)
    listed = {"step": named, "files": digests(root / "model" / RESULT)}
    write_json(root / "model" / DIGESTS, listed)


def attempted(name: str, work: Callable[[], None]) -> str | None:
    """Do the work of a container's command; return the sentence that it failed with."""
    stop_on_sigterm()
    try:
        work()
    except (ConfigError, StepError) as error:
        failure = str(error)
    except OSError as error:
        failure = f"unexpected {type(error).__name__}: {error}"
    else:
        return None
    failure = " ".join(failure.split())
    sys.stderr.write(f"{name}: error: {failure}\n")
    return failure


def write_sentence(path: Path, text: str) -> None:
    """Write why a job failed to where its operator looks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text[:_FAILURE_CHARACTERS], encoding="utf-8")


def read_step(root: Path, named: str) -> Step:
    """Read step.json, whose digest the job names.

    Raises:
        ConfigError: it is another one, or cannot be understood.
    """
    path = root / "input/data" / STEP / "step.json"
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != named:
        msg = f"{path.name}: its digest is {digest}, the job names {named}; "
        raise ConfigError(msg + "somebody has changed it in the bucket.")
    document = json.loads(content)
    settings = document.pop("settings", {})
    step = parse({**document, "settings": {}}, Step, path.name)
    return Step(step.program, settings, step.inputs)


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


def run_step(program: str, config: Mapping[str, Any], stop_seconds: float) -> None:
    """Run a program of this package as a process of its own.

    Whoever stops this stops the step first, and ends it when it has not after `stop_seconds`.

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
        last = _shown_until_its_end(process, stop_seconds)
    if process.returncode < 0:
        msg = f"{program}: was killed by signal {-process.returncode}; 9 mostly means that the "
        raise StepError(msg + "machine's memory was too small.")
    if process.returncode:
        raise StepError(last or f"{program}: exit code {process.returncode}")


def _shown_until_its_end(process: "subprocess.Popen[str]", stop_seconds: float) -> str:
    """Hand standard error on; return its last line."""
    last = ""
    try:
        for line in process.stderr or ():
            sys.stderr.write(line)
            sys.stderr.flush()
            last = line.strip() or last
        process.wait()
    except BaseException:
        stop(process, stop_seconds)
        raise
    return last
