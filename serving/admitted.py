"""A replica's first step: `python -I admitted.py HOME TRUST VERSION DIGEST FOLDER ENGINE…`.

It becomes the engine (exec, no process of its own is left) if the version is admitted at this very
moment. So a replica that the supervisor starts again after it ended, at whatever hour, is asked
about as when it was first started: other weights are not loaded, and a revoked key counts here too.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

# Isolated, Python finds nothing but installed packages: this one need not be.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from serving.admission import AdmissionError, StoreAdmission


@dataclass(frozen=True)
class Asked:
    """What is asked about; see `serving.admission.Candidate`."""

    version: str
    digest: str
    folder: Path


def main(arguments: list[str]) -> None:
    """Become the engine, or say why not in the replica's log."""
    home, trust, version, digest, folder, *engine = arguments
    try:
        admission = StoreAdmission(Path(home), Path(trust))
        admission.to_start(Asked(version, digest, Path(folder)))
    except AdmissionError as error:
        raise SystemExit(str(error)) from error
    try:
        os.execvp(engine[0], engine)  # noqa: S606 - that is its purpose
    except OSError as error:
        raise SystemExit(f"cannot start {engine[0]}: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
