"""The Hugging Face Hub as the registry: a private model repository, a tagged commit a version.

Invariants:
* A commit holds one version and nothing of another: the merged model's files, its card, and the
  documents beside it. Its digest is that of the merged model's files.
* One digest has one commit and one version. The tag ``vNNNN`` is set after the commit was verified.
* What is pulled is asked for by digest, and is in place only when it has that digest.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ftdm_assets.hub import HubError, asked
from ftdm_assets.provenance.digests import folder_files, json_digest
from ftdm_assets.registries import hub_repo
from ftdm_assets.registries.hub_repo import HubMismatchError, Upload
from ftdm_assets.registries.mlflow_registry import Registered, Registration, version_name

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
# What lies beside the model's own files; the model's digest leaves it out.
DOCUMENTS = "ftdm"
_MODEL_CARD = "model_card.md"
_NUMBERED = re.compile(r"v([0-9]{4,})")


def register(repository: str, wanted: Registration, number: int | None = None) -> Registered:
    """Push a merged model as a version, or find that it is one.

    Args:
        repository: the private model repository, ``ORG/NAME``.
        wanted: what to register.
        number: the version's number where another registry counts; without it the Hub's tags do.

    Raises:
        HubError: if the Hub refuses or cannot be reached, or gives back something else.
    """
    upload = Upload(
        to=repository,
        kind="model",
        files=model_files(wanted),
        digest=wanted.digest,
        digest_of=model_digest,
        message=f"{wanted.model}, {wanted.digest[:12]}",
        alone=True,
    )
    pushed = hub_repo.push(upload)
    named = hub_repo.tags(repository, "model")
    known = [_number(tag) for tag, commit in named.items() if commit == pushed.commit]
    numbers = [found for found in known if found]
    if number is None:
        number = numbers[0] if numbers else 1 + max(map(_number, named), default=0)
    if number not in numbers:
        hub_repo.add_tag(repository, "model", f"v{number:04d}", pushed.commit)
    return Registered(
        version_name(wanted.model, number), number, f"hf://{repository}@{pushed.commit}", ""
    )


def _number(tag: str) -> int:
    found = _NUMBERED.fullmatch(tag)
    return int(found.group(1)) if found else 0


def model_files(wanted: Registration) -> dict[str, bytes | Path]:
    """Return the files of a version's commit, by name.

    Raises:
        HubError: if the model holds a file whose name the commit needs.
    """
    files: dict[str, bytes | Path] = {
        path.relative_to(wanted.folder).as_posix(): path
        for path in sorted(wanted.folder.rglob("*"))
        if path.is_file()
    }
    taken = [name for name in files if _beside(name)]
    if taken:
        raise HubError(f"{wanted.folder / taken[0]}: the Hub's commit needs that name; rename it")
    for name, text in wanted.documents.items():
        place = CARD if name == _MODEL_CARD else f"{DOCUMENTS}/{name}"
        files[place] = (_front_matter(wanted) + text if place == CARD else text).encode()
    return files


def _front_matter(wanted: Registration) -> str:
    front = {
        "library_name": "transformers",
        "tags": ["ftdm"],
        "ftdm": {"model": wanted.model, "digest": wanted.digest, **_stages(wanted.tags)},
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"


def _stages(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix("ftdm."): digest for name, digest in sorted(tags.items())}


def model_digest(folder: Path) -> str:
    """Return the digest of the merged model that lies in a commit's folder.

    Raises:
        ValueError: if it holds a link.
        OSError: if it cannot be read.
    """
    return json_digest([file for file in folder_files(folder) if not _beside(file["name"])])


def _beside(name: str) -> bool:
    return name == CARD or name.startswith(f"{DOCUMENTS}/")


def pull(repository: str, digest: str, into: Path) -> str:
    """Bring the version with this digest to a new folder; return its commit.

    Raises:
        HubError: if there is none, the folder exists, or the Hub refuses or cannot be reached.
        HubMismatchError: if what came has another digest; nothing is left there then.
    """
    if into.exists():
        raise HubError(f"{into}: exists and is never overwritten; remove it or name another")
    where, tag = f"{repository} (model repository)", hub_repo.tag_of(digest)
    commit = hub_repo.tags(repository, "model").get(tag)
    if commit is None:
        raise HubError(f"{where}: there is no version with the digest {digest}; check both")
    into.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent)) / "model"
    try:
        asked(where, lambda api: _download(api, repository, commit, aside))
        shutil.rmtree(aside / ".cache", ignore_errors=True)
        (aside / hub_repo.HUB_S_OWN).unlink(missing_ok=True)
        found = model_digest(aside)
        if found != digest:
            raise HubMismatchError(
                f"{where} at {commit[:12]} gives {found} for {digest}; nothing was kept, ask who "
                "has changed the repository"
            )
        aside.rename(into)
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)
    return commit


def _download(api: "HfApi", repository: str, commit: str, folder: Path) -> None:
    api.snapshot_download(repository, revision=commit, local_dir=folder, force_download=True)
