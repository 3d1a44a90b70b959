"""What the local Hub holds: repositories with their commits, and every object by its content."""

import hashlib
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class File:
    """A file of a commit; `lfs` says that its object id is a SHA-256 of its bytes."""

    oid: str
    size: int
    lfs: bool

    def described(self, path: str) -> dict[str, Any]:
        more = {"oid": self.oid, "size": self.size, "pointerSize": 134}
        return {"type": "file", "path": path, "oid": self.oid, "size": self.size} | (
            {"lfs": more} if self.lfs else {}
        )


@dataclass
class Repo:
    kind: str
    id: str
    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, File], message: str) -> str:
        named = sorted((path, file.oid) for path, file in files.items())
        oid = hashlib.sha1(repr((self.log, named, message)).encode()).hexdigest()
        self.commits[oid] = files
        self.log.append((oid, message))
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str:
        named = {**self.branches, **self.tags}.get(revision, revision)
        if named not in self.commits:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return named


class Hub:
    """Everything the server holds."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.folder = folder
        self.repos: dict[tuple[str, str], Repo] = {}
        self.asked: list[str] = []
        self.lock = threading.Lock()

    def put(self, content: bytes, *, lfs: bool) -> File:
        head = b"" if lfs else b"blob %d\0" % len(content)
        made = hashlib.sha256(content) if lfs else hashlib.sha1(head + content)
        (self.folder / made.hexdigest()).write_bytes(content)
        return File(made.hexdigest(), len(content), lfs)

    def create(self, kind: str, name: str, *, private: bool = True) -> Repo:
        repo = self.repos[kind, name] = Repo(kind, name, private)
        attributes = self.put(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n", lfs=False)
        repo.commit("main", {".gitattributes": attributes}, "initial commit")
        return repo

    def count(self, pattern: str) -> int:
        """Return how many requests (`METHOD /path`) there were like this."""
        return sum(bool(re.match(pattern, one)) for one in self.asked)
