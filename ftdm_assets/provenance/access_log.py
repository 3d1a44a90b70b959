"""Who read training data: one entry a read of an artifact of records, before the data is given.

Invariants:
* The log lies beside the store, at a place that no reader chooses, and cannot be left out: the
  store writes the entry itself, and a read whose entry cannot be written gives no data.
* The user is the one that the kernel knows; ``FTDM_ACTOR`` is kept beside it, never in its place.
* An entry names digests and counts; it holds no text of any record.

It holds for whoever reads through the store. Who may read the files themselves can copy them
without a trace here; that is for the rights on the folder, and the system's own audit, to say.
"""

import os
import pwd
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.hash_chain import HashChain

READ = "read"
_SUBCOMMAND = re.compile(r"[a-z][a-z-]{1,30}")


def user() -> str:
    """Return the name of the user that this process runs as, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _program() -> str:
    """Return the program and its sub-command; other arguments may be secret."""
    words = [Path(sys.argv[0]).name, *(w for w in sys.argv[1:2] if _SUBCOMMAND.fullmatch(w))]
    return " ".join(words)


@dataclass(frozen=True)
class Reader:
    """Who reads and why: the asset, check or command; the Dagster run, if it is one."""

    why: str = field(default_factory=_program)
    run_id: str = ""


class AccessLog:
    """The access record beside a store."""

    def __init__(self, store_root: Path) -> None:
        self.chain = HashChain(store_root.parent / "log" / "access.jsonl")

    def record(self, reader: Reader, kind: str, digest: str, rows: int) -> None:
        """Append that an artifact of so many rows is read.

        Raises:
            ChainError: if the entry cannot be written.
        """
        self.chain.append(
            {
                "event": READ,
                "at": now(),
                "user": user(),
                "actor": os.environ.get("FTDM_ACTOR", "").encode(errors="replace").decode(),
                "run_id": reader.run_id,
                "why": reader.why,
                "kind": kind,
                "digest": digest,
                "rows": rows,
            }
        )
