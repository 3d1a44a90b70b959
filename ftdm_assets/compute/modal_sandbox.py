"""Modal Sandboxes, with Modal's own client: each attempt is one Sandbox of a unique name.

dagster-modal runs `modal run` as a process and follows its output: it can neither join what runs
nor leave it running. A Sandbox can be found by its name while it runs; once it is over its name is
free, and then the bucket says how it ended.
"""

import math
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftdm_assets.compute.bucket_job import (
    failure_in_bucket,
    left_in_bucket,
    require,
    told_to_container,
)
from ftdm_assets.compute.job import IMAGE_VARIABLE, SECONDS, Job, Phase, Seen, without_registry
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.compute.staging import Staging
from ftdm_assets.compute_settings import ModalSettings
from gpu_steps.container import BUCKET_COMMAND, DIGESTS, JOB_VARIABLE

_STARTED = "ftdm-started"
_TIMED_OUT, _TERMINATED = 124, 137  # As Modal's client says it.
_TAG_LIMIT = 63
_ENDING_SECONDS = 60.0


class ModalSandboxes:
    """The operator of Sandboxes; see `Operator`."""

    service = "Modal"
    noun = "Modal sandbox"
    console = "Modal's dashboard"

    def __init__(self, settings: ModalSettings, staging: Staging) -> None:
        require("modal", "modal", "boto3")
        self._settings, self._staging = settings, staging
        self.poll_seconds = settings.poll_seconds
        self.patience_minutes = settings.patience_minutes
        self._sandboxes: dict[str, Any] = {}
        self._lines: dict[str, queue.SimpleQueue[str]] = {}

    def name(self, job: Job, attempt: int) -> str:
        """Return the name of an attempt."""
        settings = self._settings
        return job.name(["modal", settings.image, settings.gpu], attempt)

    def start(self, job: Job, attempt: int) -> bool:
        """Ask for an attempt; return whether it was made. Modal waits for a machine meanwhile."""
        import modal

        settings, name = self._settings, self.name(job, attempt)
        pull = settings.registry_secret and self._secret(settings.registry_secret)
        environment: dict[str, str | None] = {
            **settings.environment,
            **job.environment,
            JOB_VARIABLE: told_to_container(job, name, settings.output_kms_key),
            IMAGE_VARIABLE: settings.image.rpartition("@")[2],
        }
        try:
            self._sandboxes[name] = modal.Sandbox.create(
                *BUCKET_COMMAND,
                app=modal.App.lookup(
                    settings.app,
                    create_if_missing=True,
                    environment_name=settings.modal_environment,
                ),
                name=name,
                image=modal.Image.from_registry(settings.image, secret=pull or None),
                secrets=[self._secret(one) for one in settings.secrets],
                env=environment,
                gpu=settings.gpu,
                cpu=settings.cpu,
                memory=settings.memory_mb,
                region=settings.region,
                timeout=math.ceil(settings.max_hours * SECONDS),
                tags={_STARTED: str(int(time.time())), **_tags(job)},
            )
        except modal.exception.AlreadyExistsError:
            return False
        return True

    def look_up(self, name: str) -> Seen | None:
        """Say how far a sandbox is; None if there is none, and none has left anything."""
        sandbox = self._found(name)
        if sandbox is None:
            return left_in_bucket(self._staging, name)
        code = sandbox.poll()
        known: dict[str, Any] = {
            "seconds": time.time() - int(sandbox.get_tags().get(_STARTED, time.time())),
            "facts": {
                "sandbox": sandbox.object_id,
                "gpu": self._settings.gpu,
                "image": without_registry(self._settings.image),
            },
        }
        if code is None:
            return Seen(Phase.RUNNING, "running", **known)
        output = self._staging.url("output", name, DIGESTS)
        if code == 0 and self._staging.exists(output):
            return Seen(Phase.COMPLETED, "completed", output=output, **known)
        return self._failed(name, code, known)

    def _failed(self, name: str, code: int, known: dict[str, Any]) -> Seen:
        left = failure_in_bucket(self._staging, name)
        if left:
            return Seen(Phase.FAILED, "failed", left, **known)
        if code == _TIMED_OUT:
            hours = self._settings.max_hours
            reason = f"it ran for {hours:g} hours, raise compute.modal.max_hours"
            return Seen(Phase.FAILED, "timed out", reason, **known)
        if code == _TERMINATED:
            reason = "it was terminated, by a person or by Modal"
            return Seen(Phase.STOPPED, "terminated", reason, **known)
        reason = f"exit code {code}, and the bucket holds no reason; look at its log"
        return Seen(Phase.FAILED, "failed", reason, **known)

    def stop(self, name: str) -> None:
        """Terminate a sandbox and see it end; one that is over or gone is none to stop."""
        sandbox = self._found(name)
        if sandbox is None:
            return
        sandbox.terminate()
        # Until then it may write checkpoints, and its name finds it.
        end = time.monotonic() + _ENDING_SECONDS
        while sandbox.poll() is None and time.monotonic() < end:
            time.sleep(min(self.poll_seconds, 1.0))

    def lines(self, name: str) -> Iterator[str]:
        """Give the lines that have come since the last time; threads read the streams."""
        lines = self._lines.get(name)
        if lines is None:
            sandbox = self._found(name)
            if sandbox is None:
                return
            lines = self._lines[name] = queue.SimpleQueue()
            for stream in (sandbox.stdout, sandbox.stderr):
                threading.Thread(target=_read, args=(stream, lines), daemon=True).start()
        while not lines.empty():
            yield lines.get()

    def passes(self, error: Exception) -> bool:
        """Say whether an error may pass by itself."""
        import modal

        passing = (
            modal.exception.ConnectionError,
            modal.exception.ServiceError,
            modal.exception.InternalError,
            modal.exception.TimeoutError,
            modal.exception.ResourceExhaustedError,
        )
        return isinstance(error, (*passing, OSError, TimeoutError))

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Turn what the client raises into one sentence without a secret in it."""
        import modal

        try:
            yield
        except modal.exception.AuthError:
            raise StepFailedError(
                f"{what}: Modal does not accept the token; set MODAL_TOKEN_ID and "
                "MODAL_TOKEN_SECRET, or run `modal token new`"
            ) from None
        except modal.exception.Error as error:
            raise StepFailedError(
                f"{what}: Modal refused it: {' '.join(str(error).split())}"
            ) from (None)

    def _found(self, name: str) -> Any:
        """Return the sandbox of a name: one that was seen here, else one that runs; or None."""
        import modal

        if name not in self._sandboxes:
            try:
                self._sandboxes[name] = modal.Sandbox.from_name(
                    self._settings.app, name, environment_name=self._settings.modal_environment
                )
            except modal.exception.NotFoundError:
                return None
        return self._sandboxes[name]

    def _secret(self, name: str) -> Any:
        import modal

        return modal.Secret.from_name(name, environment_name=self._settings.modal_environment)


def _read(stream: Any, lines: "queue.SimpleQueue[str]") -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))


def _tags(job: Job) -> dict[str, str]:
    """Return the tags in the letters that Modal takes."""
    return {
        key.replace("/", "-"): str(value)[:_TAG_LIMIT]
        for key, value in job.tags.items()
        if str(value)
    }
