"""Objects in a bucket (``s3://bucket/key``): their state, and a whole local copy of one state.

Endpoint, region and credentials come from the usual AWS environment (``AWS_ENDPOINT_URL``,
``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID`` and so on), never from ``defs.yaml``.

Invariants:
* A copy is one state of the object, all of it: it is read on the condition that the object is still
  the one that was looked at (its version where the bucket keeps versions, its ETag everywhere), its
  length is checked, and it gets its name only when it is complete.
* A state is what the store says of the content: version, ETag (a checksum of the bytes or of the
  parts that were uploaded) and size. Other bytes give another state. The same bytes in other parts
  may give another state too; that costs a reading, and the snapshot has the same digest again.
* Every request has a timeout and a bounded number of tries.
"""

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets import aws
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.sources.tables import SourceError

PREFIX = "s3://"
_TRIES = aws.TRIES
_PAUSE_S = 0.5
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ObjectState:
    """An object as it is now."""

    bucket: str
    key: str
    etag: str
    version: str
    size: int

    @property
    def digest(self) -> str:
        """Return what changes whenever the content does; where the object lies does not count."""
        return json_digest({"etag": self.etag, "version": self.version, "size": self.size})


def is_object(path: str) -> bool:
    """Say whether a path names an object in a bucket."""
    return path.startswith(PREFIX)


def object_state(url: str) -> ObjectState:
    """Ask for an object's state, without its content.

    Raises:
        SourceError: one sentence that names the object and the remedy.
    """
    bucket, _, key = url.removeprefix(PREFIX).partition("/")
    if not bucket or not key:
        raise SourceError(f"{url}: expected s3://BUCKET/KEY; mend the path in defs.yaml")
    if importlib.util.find_spec("boto3") is None:
        raise SourceError(
            f"{url}: reading from a bucket needs boto3; install it with `pip install "
            "'ftdm-assets[aws]'`"
        )
    with _told(url):
        head = aws.client("s3").head_object(Bucket=bucket, Key=key)
    version = str(head.get("VersionId") or "")
    return ObjectState(bucket, key, head["ETag"], version, int(head["ContentLength"]))


def fetch(url: str, folder: Path) -> Path:
    """Return a whole local copy of an object's present state, below ``folder``.

    The copy keeps the object's file name; a state that lies there already is not read again.

    Raises:
        SourceError: one sentence that names the object and the remedy.
    """
    for _ in range(_TRIES):
        state = object_state(url)
        target = folder / json_digest([url, state.digest])[:32] / Path(state.key).name
        if target.is_file() and target.stat().st_size == state.size:
            return target
        if _copied(url, state, target):
            return target
    raise SourceError(
        f"{url}: the object was replaced each of the {_TRIES} times that it was read; "
        "run again when nobody writes to it"
    )


def _copied(url: str, state: ObjectState, target: Path) -> bool:
    """Copy one state of an object; False if it is not there any more."""
    from botocore.exceptions import ClientError

    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _TRIES + 1):
        handle, name = tempfile.mkstemp(dir=target.parent)
        aside = Path(name)
        try:
            with _told(url), os.fdopen(handle, "wb") as stream:
                try:
                    received = _download(state, stream)
                except ClientError as error:
                    if aws.status(error) == 412:
                        return False
                    raise
            if received == state.size:
                aside.replace(target)
                return True
        finally:
            aside.unlink(missing_ok=True)
        if attempt < _TRIES:
            time.sleep(_PAUSE_S * attempt)
    raise SourceError(
        f"{url}: the connection was cut {_TRIES} times before all {state.size} bytes were "
        "there; check the network to the store and run again"
    )


def _download(state: ObjectState, stream: Any) -> int:
    """Write an object's bytes; return how many came before the connection ended."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    chosen = {"VersionId": state.version} if state.version not in {"", "null"} else {}
    answer = aws.client("s3").get_object(
        Bucket=state.bucket, Key=state.key, IfMatch=state.etag, **chosen
    )
    received = 0
    # A cut connection ends the copy early; the caller sees it by the length.
    with contextlib.suppress(IncompleteReadError, HTTPClientError), answer["Body"] as body:
        while chunk := body.read(_CHUNK):
            stream.write(chunk)
            received += len(chunk)
    return received


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what the client raises into one sentence without a secret in it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        remedies = {
            404: "there is no such object; mend the path, or put the object there",
            403: f"access denied ({code}); let these credentials read the object, or choose "
            "others in the AWS environment",
        }
        reason = remedies.get(aws.status(error), f"the store answered {code}; try again later")
        raise SourceError(f"{url}: {reason}") from None
    except BotoCoreError as error:
        reason = str(error).rstrip(".")
        raise SourceError(
            f"{url}: the store cannot be asked ({reason}); check endpoint, region and credentials "
            "in the AWS environment"
        ) from None
