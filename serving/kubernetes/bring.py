"""A pod's first step: `python -I bring.py HOME TRUST VERSION DIGEST SOURCE FOLDER`.

It copies the model from the store to the pod's own disk and asks about the copy: what the engine
reads afterwards is what was checked, whoever can write to the store. `admitted.py` asks again each
time that the engine starts.
"""

import shutil
import sys
from pathlib import Path

# Isolated, Python finds nothing but installed packages: this one need not be.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from serving.admission import AdmissionError, StoreAdmission
from serving.admitted import Asked


def main(arguments: list[str]) -> None:
    """Bring the model, or say why not in the pod's log."""
    home, trust, version, digest, source, folder = arguments
    try:
        _copy(Path(source), Path(folder))
        StoreAdmission(Path(home), Path(trust)).to_start(Asked(version, digest, Path(folder)))
    except AdmissionError as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        raise SystemExit(f"{version}: its weights cannot be brought here: {error}") from error
    sys.stdout.write(f"{version} is here and verified\n")


def _copy(source: Path, folder: Path) -> None:
    """Copy into a folder that is a mount itself; what an earlier try has left goes first."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    shutil.copytree(source, folder, dirs_exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
