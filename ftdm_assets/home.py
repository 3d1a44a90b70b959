"""The home folder: everything that running leaves behind lies under it, and nothing elsewhere."""

import os
from pathlib import Path

from ftdm_assets.provenance.access_log import Reader
from ftdm_assets.provenance.files import write_bytes
from ftdm_assets.provenance.store import ArtifactStore, store_folder
from ftdm_assets.provenance.trust import Trust, read_trust
from ftdm_assets.provenance.trust import trust_folder as folder_of_trust

_DAGSTER_YAML = """\
# Written by ftdm. One GPU step at a time: every GPU step is in the pool "gpu".
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    default_limit: 1
    granularity: op
  runs:
    max_concurrent_runs: 4
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 30
"""


def home() -> Path:
    """Return the home folder: ``FTDM_HOME``, else ``.ftdm`` in the current folder."""
    return Path(os.environ.get("FTDM_HOME") or ".ftdm").resolve()


def store(reader: Reader | None = None) -> ArtifactStore:
    """Return the artifact store of the home folder, as read by and for ``reader``."""
    return ArtifactStore(store_folder(home()), reader)


def trust_folder(home_folder: Path | None = None) -> Path:
    """Return where the trusted public keys lie: ``FTDM_TRUST``, else a folder of the home."""
    return folder_of_trust(home_folder or home())


def trust(home_folder: Path | None = None) -> Trust:
    """Return which keys count."""
    return read_trust(trust_folder(home_folder))


def work() -> Path:
    """Return the folder for unfinished work, such as checkpoints; safe to delete when idle."""
    folder = home() / "work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def dagster_home() -> Path:
    """Return Dagster's folder, made with our settings when it is new, and set ``DAGSTER_HOME``."""
    chosen = os.environ.get("DAGSTER_HOME")
    folder = Path(chosen) if chosen else home() / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        write_bytes(folder / "dagster.yaml", _DAGSTER_YAML.encode())
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder
