"""Files from and to a bucket (``s3://BUCKET/PREFIX``), in a container.

Credentials, region and endpoint come from the usual AWS environment. Invariant: every request has
a timeout and a bounded number of tries, and what fails is one sentence without a secret in it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gpu_steps.config import StepError

_CONNECT_S, _READ_S, _TRIES = 10, 60, 6


class Bucket:
    """Reads and writes objects by their addresses; ``kms_key`` encrypts what is written."""

    def __init__(self, kms_key: str | None = None) -> None:
        import boto3
        from botocore.config import Config

        retries = {"mode": "standard", "max_attempts": _TRIES}
        self._s3 = boto3.session.Session().client(
            "s3",
            config=Config(connect_timeout=_CONNECT_S, read_timeout=_READ_S, retries=retries),
        )
        self._options = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )

    def download(self, url: str, folder: Path) -> None:
        """Download everything below an address that ends in a slash."""
        bucket, prefix = _parts(url)
        for key in self._listed(bucket, prefix):
            path = folder / key.removeprefix(prefix)
            if folder.resolve() not in path.resolve().parents:
                raise StepError(f"{url}: the name {key} leads out of its folder; remove it.")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._s3.download_file(bucket, key, str(path))

    def upload(self, folder: Path, url: str, last: str = "") -> None:
        """Upload every file of a folder, the one that is named ``last`` after all others."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda one: (one.name == last, one)):
            self.put(path, f"{url}{path.relative_to(folder).as_posix()}")

    def put(self, path: Path, url: str) -> None:
        """Upload one file."""
        bucket, key = _parts(url)
        self._s3.upload_file(str(path), bucket, key, ExtraArgs=self._options)

    def exists(self, url: str) -> bool:
        """Say whether there is an object."""
        bucket, key = _parts(url)
        return key in self._listed(bucket, key)

    def folders(self, url: str) -> set[str]:
        """Return the names of the folders right below an address that ends in a slash."""
        bucket, prefix = _parts(url)
        names = {key.removeprefix(prefix) for key in self._listed(bucket, prefix)}
        return {name.partition("/")[0] for name in names if "/" in name}

    def remove(self, url: str) -> None:
        """Remove everything below an address that ends in a slash."""
        bucket, prefix = _parts(url)
        for key in self._listed(bucket, prefix):
            self._s3.delete_object(Bucket=bucket, Key=key)

    def _listed(self, bucket: str, prefix: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]


def _parts(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


@contextlib.contextmanager
def bucket_errors() -> Iterator[None]:
    """Turn what the client raises into one sentence.

    Raises:
        StepError: naming what AWS answered.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        said = str(error).rstrip(".")
        msg = f"the bucket cannot be used ({said}); check the credentials, region and endpoint "
        raise StepError(msg + "that the container is given.") from None
