"""A private repository of the Hugging Face Hub: content goes up whole, under a tag of its digest.

Invariants:
* The repository is private: it is made so, and one that is public is refused before anything is
  sent there.
* One push is one commit, made only on the state that was looked at. What failed half-way left no
  commit; pushing again goes on (the Hub keeps what was uploaded) and makes nothing twice.
* The tag is set last, after everything was downloaded at that commit and has the digest again. So a
  tagged commit was verified, and nothing is called pushed before it is.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ftdm_assets.hub import HubError, asked
from ftdm_assets.provenance.digests import file_digest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB_S_OWN = ".gitattributes"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class HubMismatchError(HubError):
    """What the Hub gives back is not what was sent."""


@dataclass(frozen=True)
class Upload:
    """What is pushed.

    Attributes:
        to: the repository, ``ORG/NAME``.
        files: content or path of every file, by its name in the repository.
        digest: hex SHA-256 of the content that the files carry.
        digest_of: computes that digest anew from a folder of downloaded files.
        alone: what else lies there is removed in the same commit, but for the Hub's own file; else
            it stays.
    """

    to: str
    kind: Literal["dataset", "model"]
    files: Mapping[str, bytes | Path]
    digest: str
    digest_of: Callable[[Path], str]
    message: str
    alone: bool = False

    @property
    def where(self) -> str:
        """Return what messages call the repository."""
        return f"{self.to} ({self.kind} repository)"


@dataclass(frozen=True)
class Pushed:
    """Where it is now; ``made`` is false if it was there before."""

    commit: str
    tag: str
    made: bool


def tag_of(digest: str) -> str:
    """Return the tag that names a digest."""
    return f"sha256-{digest}"


def push(upload: Upload) -> Pushed:
    """Bring files to a private repository, or find them there, and verify them.

    Raises:
        HubError: if the repository is public, the token is refused, or the name is none.
        HubUnreachableError: if the Hub cannot be reached, or fails.
        HubMismatchError: if what was sent comes back changed; it is not tagged then.
    """
    if not _NAME.fullmatch(upload.to):
        raise HubError(f"{upload.to!r} is no repository; expected ORG/NAME")
    where, tag = upload.where, tag_of(upload.digest)
    asked(where, lambda api: _ensure_private(api, upload))
    commit = tags(upload.to, upload.kind).get(tag)
    made = commit is None
    if commit is None:
        commit = asked(where, lambda api: _commit(api, upload))
    _verify(upload, commit, exactly=made)
    if made:
        add_tag(upload.to, upload.kind, tag, commit)
    return Pushed(commit, tag, made)


def tags(repository: str, kind: Literal["dataset", "model"]) -> dict[str, str]:
    """Return a repository's tags and the commits they name; none where there is no repository.

    Raises:
        HubError: if the token is refused; HubUnreachableError, if the Hub cannot be reached.
    """

    def ask(api: "HfApi") -> dict[str, str]:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            refs = api.list_repo_refs(repository, repo_type=kind)
        except RepositoryNotFoundError:
            return {}
        return {one.name: one.target_commit for one in refs.tags}

    return asked(f"{repository} ({kind} repository)", ask)


def add_tag(repository: str, kind: Literal["dataset", "model"], name: str, commit: str) -> None:
    """Give a commit a name that no other commit has.

    Raises:
        HubError: if another commit has it, or the Hub refuses; HubUnreachableError.
    """
    where = f"{repository} ({kind} repository)"

    def ask(api: "HfApi") -> None:
        api.create_tag(repository, tag=name, revision=commit, repo_type=kind, exist_ok=True)

    asked(where, ask)
    found = tags(repository, kind).get(name)
    if found != commit:
        raise HubError(f"{where}: {name} names {found or 'nothing'} and not {commit}; run it again")


def _ensure_private(api: "HfApi", upload: Upload) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    api.whoami()
    try:
        private = api.repo_info(upload.to, repo_type=upload.kind).private
    except RepositoryNotFoundError:
        api.create_repo(upload.to, repo_type=upload.kind, private=True)
        private = api.repo_info(upload.to, repo_type=upload.kind).private
    if not private:
        raise HubError(
            f"{upload.where} is public, nothing was sent there; make it private in its settings "
            "on the Hub, or name another"
        )


def _commit(api: "HfApi", upload: Upload) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = api.repo_info(upload.to, repo_type=upload.kind).sha
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(name, content) for name, content in upload.files.items()
    ]
    if upload.alone:
        names = set(api.list_repo_files(upload.to, revision=head, repo_type=upload.kind))
        names -= {*upload.files, HUB_S_OWN}
        operations += [CommitOperationDelete(name, is_folder=False) for name in sorted(names)]
    # Where nothing has changed, the client makes no commit and returns the one that is there.
    done = api.create_commit(
        upload.to,
        operations,
        repo_type=upload.kind,
        commit_message=upload.message,
        parent_commit=head,
    )
    return str(done.oid)


def _verify(upload: Upload, commit: str, *, exactly: bool) -> None:
    """Download all files; what was sent now has to be the same in every byte."""
    with tempfile.TemporaryDirectory(prefix="ftdm-verify-") as name:
        folder = Path(name)
        asked(upload.where, lambda api: _download(api, upload, commit, folder))
        # The client leaves its notes there.
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        changed = [path for path in upload.files if exactly and not _same(upload, path, folder)]
        try:
            found = upload.digest_of(folder)
        except (ValueError, OSError) as error:
            found = f"what cannot be read ({error})"
    if changed:
        problem = f"gives {', '.join(changed)} back changed"
    elif found != upload.digest:
        problem = f"gives back {found} for {upload.digest}"
    else:
        return
    raise HubMismatchError(
        f"{upload.where} at {commit[:12]} {problem}, so it does not count as pushed; push again, "
        "and if it stays so, delete the repository"
    )


def _same(upload: Upload, name: str, folder: Path) -> bool:
    sent = upload.files[name]
    digest = file_digest(sent) if isinstance(sent, Path) else hashlib.sha256(sent).hexdigest()
    return file_digest(folder / name) == digest


def _download(api: "HfApi", upload: Upload, commit: str, folder: Path) -> None:
    for name in upload.files:
        api.hf_hub_download(
            upload.to, name, repo_type=upload.kind, revision=commit, local_dir=folder,
            force_download=True,
        )  # fmt: skip
