"""Inputs to a bucket and outputs back, for machines that share no disk with this one.

Invariants:
* An input lies under the digest of its content: what is there whole is not uploaded again.
* An output is taken only if it holds exactly the files, with the digests, that the job has listed
  for exactly this step; it gets its name when all of it is there and verified.
"""

import contextlib
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets import aws
from ftdm_assets.compute.process import StepFailedError
from ftdm_assets.provenance.digests import canonical_json, file_digest, folder_files, json_digest
from ftdm_assets.provenance.files import folder_aside
from gpu_steps.container import DIGESTS, RESULT

INPUTS = ("base_model", "train_file")
PLACES = (*INPUTS, "output", "work")
_ANEW = "run again, the next attempt makes it anew"


class DamagedOutputError(StepFailedError):
    """What a job has written is not whole; another attempt has to make it anew."""


@dataclass(frozen=True)
class Input:
    """A local file or folder with the digest of each of its files by relative name."""

    path: Path
    files: Mapping[str, str]

    @staticmethod
    def of(path: Path) -> "Input":
        """Digest a file or a folder."""
        if path.is_dir():
            return Input(path, {entry["name"]: entry["digest"] for entry in folder_files(path)})
        return Input(path, {path.name: file_digest(path)})

    @property
    def digest(self) -> str:
        """Return the digest that it lies under."""
        return json_digest(dict(self.files))

    def local(self, name: str) -> Path:
        """Return the local path of one of its files."""
        return self.path / name if self.path.is_dir() else self.path


@dataclass(frozen=True)
class RemoteStep:
    """A step without the places of this machine."""

    program: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Input]

    @staticmethod
    def of(program: str, config: Mapping[str, Any]) -> "RemoteStep":
        """Take the places out of a step's configuration and digest its inputs."""
        settings = {name: value for name, value in config.items() if name not in PLACES}
        return RemoteStep(program, settings, {n: Input.of(Path(config[n])) for n in INPUTS})

    @property
    def document(self) -> bytes:
        """Return step.json as the job's entry reads it."""
        inputs = {
            name: {"folder": one.path.is_dir(), "files": dict(one.files)}
            for name, one in self.inputs.items()
        }
        content = {"program": self.program, "settings": dict(self.settings), "inputs": inputs}
        return canonical_json(content)

    @property
    def digest(self) -> str:
        """Return the digest of step.json."""
        return json_digest(json.loads(self.document))


class Staging:
    """A place in a bucket (``s3://BUCKET/PREFIX``); ``kms_key`` encrypts what is put there."""

    def __init__(self, url: str, kms_key: str | None = None) -> None:
        self.bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )

    def url(self, *parts: str) -> str:
        """Return the address of something below the place; a last part of "" ends in a slash."""
        return f"s3://{self.bucket}/{self._prefix}{'/'.join(parts)}"

    def put_step(self, step: RemoteStep) -> tuple[dict[str, str], int]:
        """Upload step.json and the inputs that are not there; return channels, bytes uploaded.

        Raises:
            StepFailedError: if the bucket cannot be read or written.
        """
        channels = {"step": self.url("steps", step.digest, "")}
        sent = 0
        for name, one in step.inputs.items():
            channels[name] = self.url("inputs", one.digest, "")
            sent += self._put_input(channels[name], one)
        with told(channels["step"]):
            key = f"{self._key(channels['step'])}step.json"
            aws.client("s3").put_object(
                Bucket=self.bucket, Key=key, Body=step.document, **self._options
            )
        return channels, sent

    def _put_input(self, url: str, one: Input) -> int:
        sent = 0
        with told(url):
            there = self._listed(self._key(url))
            for name in one.files:
                path, key = one.local(name), f"{self._key(url)}{name}"
                size = path.stat().st_size
                if there.get(key) != size:
                    aws.client("s3").upload_file(
                        str(path), self.bucket, key, ExtraArgs=self._options
                    )
                    sent += size
        return sent

    def exists(self, url: str) -> bool:
        """Say whether there is an object."""
        with told(url):
            return self._key(url) in self._listed(self._key(url))

    def put_json(self, url: str, document: Mapping[str, Any]) -> None:
        """Put a small document.

        Raises:
            StepFailedError: if the bucket cannot be written.
        """
        with told(url):
            aws.client("s3").put_object(
                Bucket=self.bucket,
                Key=self._key(url),
                Body=canonical_json(dict(document)),
                **self._options,
            )

    def read_text(self, url: str) -> str | None:
        """Read a small object; None if there is none.

        Raises:
            StepFailedError: if the bucket cannot be read.
        """
        with told(url):
            if self._key(url) not in self._listed(self._key(url)):
                return None
            found = aws.client("s3").get_object(Bucket=self.bucket, Key=self._key(url))
            return str(found["Body"].read().decode(errors="replace"))

    def read_json(self, url: str) -> dict[str, Any] | None:
        """Read a document that `put_json` has put; None if there is none."""
        text = self.read_text(url)
        return None if text is None else dict(json.loads(text))

    def take(self, url: str, step: str, output: Path) -> None:
        """Download a job's output, verify it, and put its result folder in place.

        Args:
            url: what the job wrote last: ``model.tar.gz``, or the list of digests that lies
                beside the folder of the result.
            step: digest of the step.
            output: the place.

        Raises:
            StepFailedError: if it cannot be read.
            DamagedOutputError: if it is not what the job has listed.
        """
        with tempfile.TemporaryDirectory(dir=_made(output.parent)) as folder:
            made = Path(folder) / "model"
            made.mkdir()
            if url.endswith(DIGESTS):
                self._download_below(url.removesuffix(DIGESTS), made)
            else:
                self._unpack(url, made)
            with _whole(url):
                _verify(made, step, url)
            with folder_aside(output) as aside:
                aside.rmdir()
                (made / RESULT).rename(aside)

    def _unpack(self, url: str, folder: Path) -> None:
        archive = folder.with_name("model.tar.gz")
        with told(url):
            aws.client("s3").download_file(self.bucket, self._key(url), str(archive))
        with _whole(url), tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        archive.unlink()

    def _download_below(self, url: str, folder: Path) -> None:
        with told(url):
            for key in self._listed(self._key(url)):
                path = folder / key.removeprefix(self._key(url))
                if folder.resolve() not in path.resolve().parents:
                    raise DamagedOutputError(f"{url}: {key} leads out of its folder; remove it")
                _made(path.parent)
                aws.client("s3").download_file(self.bucket, key, str(path))

    def remove(self, url: str) -> None:
        """Remove everything below an address.

        Raises:
            StepFailedError: if that is not allowed.
        """
        with told(url):
            for key in self._listed(self._key(url)):
                aws.client("s3").delete_object(Bucket=self.bucket, Key=key)

    def _listed(self, prefix: str) -> dict[str, int]:
        pages = aws.client("s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=prefix)
        return {item["Key"]: item["Size"] for page in found for item in page.get("Contents", ())}

    def _key(self, url: str) -> str:
        return url.removeprefix(f"s3://{self.bucket}/")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _verify(unpacked: Path, step: str, url: str) -> None:
    listed = json.loads((unpacked / DIGESTS).read_text(encoding="utf-8"))
    found = {entry["name"]: entry["digest"] for entry in folder_files(unpacked / RESULT)}
    if listed["step"] != step:
        raise DamagedOutputError(f"{url}: is the output of another step; {_ANEW}")
    different = sorted(
        name for name in {*found, *listed["files"]} if found.get(name) != listed["files"].get(name)
    )
    if different or not found:
        name = different[0] if different else RESULT
        raise DamagedOutputError(f"{url}: {name} is not what the job has written; {_ANEW}")


@contextlib.contextmanager
def _whole(url: str) -> Iterator[None]:
    try:
        yield
    except DamagedOutputError:
        raise
    except (tarfile.TarError, zlib.error, EOFError, OSError, KeyError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # The disk's fault, not its own.
            raise StepFailedError(f"{url}: cannot be kept here: {error}") from None
        raise DamagedOutputError(f"{url}: cannot be unpacked ({error}); {_ANEW}") from error


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what the AWS client raises into one sentence without a secret in it."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        message = error.response.get("Error", {}).get("Message", "")
        raise StepFailedError(f"{what}: AWS answered {aws.code(error)}: {message}") from None
    except (BotoCoreError, Boto3Error) as error:
        raise StepFailedError(
            f"{what}: AWS cannot be reached ({str(error).rstrip('.')}); check region, network and "
            "credentials in the AWS environment, and run again"
        ) from None
