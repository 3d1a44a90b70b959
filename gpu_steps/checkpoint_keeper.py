"""Uploads checkpoints while a step runs, so that another container can go on from them.

Invariants: only a checkpoint whose marker is there is uploaded, its marker last; an older one is
removed from the bucket only after a newer one is there; a bucket that is out of reach never fails
the step.
"""

import sys
import threading
from pathlib import Path
from types import TracebackType

from gpu_steps.bucket import Bucket, bucket_errors
from gpu_steps.checkpoints import MARKER
from gpu_steps.config import StepError

_LOOK_SECONDS = 0.5


class CheckpointKeeper:
    """A thread that looks for whole checkpoints in ``folder`` and uploads them below ``url``."""

    def __init__(self, bucket: Bucket, folder: Path, url: str) -> None:
        self._bucket, self._folder, self._url = bucket, folder, url
        self._kept = {path.parent for path in self._whole()}
        self._ended = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._watch, daemon=True, name="checkpoints")

    def __enter__(self) -> "CheckpointKeeper":
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Take a last look, which a step that was stopped is owed, and end."""
        del kind, error, at
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            with bucket_errors():
                found = [marker.parent for marker in self._whole()]
                if found and found[-1] not in self._kept:
                    self._keep(found[-1])
            self._told = False
        except FileNotFoundError:
            pass  # The step has removed the checkpoint meanwhile; a newer one is there.
        except (StepError, OSError) as error:
            if not self._told:
                sys.stderr.write(f"a checkpoint was not uploaded, the step goes on: {error}\n")
            self._told = True

    def _whole(self) -> list[Path]:
        return sorted(self._folder.glob(f"*/checkpoint-*/{MARKER}"), key=_step_of)

    def _keep(self, checkpoint: Path) -> None:
        run = f"{self._url}{checkpoint.parent.name}/"
        self._bucket.upload(checkpoint, f"{run}{checkpoint.name}/", last=MARKER)
        self._kept.add(checkpoint)
        for name in self._bucket.folders(run) - {checkpoint.name}:
            self._bucket.remove(f"{run}{name}/")


def _step_of(marker: Path) -> int:
    return int(marker.parent.name.removeprefix("checkpoint-"))
