"""The requests of the Hub's protocol, and what is answered to each."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.hub.repos import File, RefusedError

if TYPE_CHECKING:
    from tests.hub.server import Request

_REPO = r"(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)"
_FILES = r"(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+?)"


def whoami(on: "Request", _: bytes) -> None:
    if on.headers.get("Authorization") is None:
        raise RefusedError(401, "Invalid username or password.")
    on.answer(200, {"type": "user", "name": "tester", "orgs": [{"name": "org"}]})


def validate(on: "Request", _: bytes) -> None:
    on.answer(200, {"errors": [], "warnings": []})


def create(on: "Request", content: bytes) -> None:
    asked = json.loads(content)
    kind = f"{asked.get('type', 'model')}s"
    name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
    if (kind, name) in on.hub.repos:
        raise RefusedError(409, "You already created this repo")
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    on.hub.create(kind, name, private=private)
    prefix = "" if kind == "models" else f"{kind}/"
    on.answer(200, {"url": f"{on.hub.url}/{prefix}{name}"})


def info(on: "Request", _: bytes, kind: str, id: str, revision: str = "main") -> None:
    repo = on.repo(kind, id)
    sha = repo.resolve(revision)
    siblings = [{"rfilename": path} for path in repo.commits[sha]]
    on.answer(200, {"id": id, "sha": sha, "private": repo.private, "siblings": siblings})


def refs(on: "Request", _: bytes, kind: str, id: str) -> None:
    repo = on.repo(kind, id)
    named = (("branches", "heads", repo.branches), ("tags", "tags", repo.tags))
    found: dict[str, Any] = {
        key: [
            {"name": name, "ref": f"refs/{where}/{name}", "targetCommit": oid}
            for name, oid in refs.items()
        ]
        for key, where, refs in named
    }
    on.answer(200, {**found, "converts": []})


def commits(on: "Request", _: bytes, kind: str, id: str, revision: str) -> None:
    repo = on.repo(kind, id)
    newest = [oid for oid, _ in repo.log].index(repo.resolve(revision))
    moment = "2026-01-01T00:00:00.000Z"
    entries = [
        {"id": oid, "title": title, "message": "", "authors": [], "date": moment}
        for oid, title in reversed(repo.log[: newest + 1])
    ]
    on.answer(200, entries)


def tree(
    on: "Request", _: bytes, kind: str, id: str, revision: str, path: str | None = None
) -> None:
    repo = on.repo(kind, id)
    files = repo.commits[repo.resolve(revision)]
    folder = f"{path}/" if path else ""
    deep = on.query.get("recursive", [""])[0].lower() in {"true", "1"}
    found: dict[str, Any] = {}
    for name, file in files.items():
        if not name.startswith(folder):
            continue
        first, _slash, rest = name.removeprefix(folder).partition("/")
        if rest:
            there = folder + first
            found[there] = {"type": "directory", "path": there, "oid": "0" * 40, "size": 0}
        if deep or not rest:
            found[name] = file.described(name)
    if path and not found:
        raise RefusedError(404, "Entry not found", "EntryNotFound")
    on.answer(200, list(found.values()))


def paths_info(on: "Request", content: bytes, kind: str, id: str, revision: str) -> None:
    repo = on.repo(kind, id)
    files = repo.commits[repo.resolve(revision)]
    form = content.decode()
    asked = json.loads(form)["paths"] if form.startswith("{") else parse_qs(form)["paths"]
    found = [files[path].described(path) for path in asked if path in files]
    folders = [p for p in asked if any(name.startswith(f"{p}/") for name in files)]
    found += [{"type": "directory", "path": p, "oid": "0" * 40, "size": 0} for p in folders]
    on.answer(200, found)


def preupload(on: "Request", content: bytes, kind: str, id: str, revision: str) -> None:
    repo = on.repo(kind, id, write=True)
    files = repo.commits[repo.resolve(revision)]
    answers = []
    for asked in json.loads(content)["files"]:
        large = asked["path"].endswith((".parquet", ".safetensors")) or asked["size"] > 10 << 20
        there = files.get(asked["path"])
        mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        answers.append({"path": asked["path"], **mode, "oid": there.oid if there else None})
    on.answer(200, {"files": answers})


def batch(on: "Request", content: bytes, kind: str | None, id: str) -> None:
    on.repo(kind, id, write=True)
    answers = []
    for asked in json.loads(content)["objects"]:
        href = f"{on.hub.url}/lfs/{asked['oid']}"
        missing = not (on.hub.folder / asked["oid"]).exists()
        answers.append({**asked, **({"actions": {"upload": {"href": href}}} if missing else {})})
    on.answer(200, {"transfer": "basic", "objects": answers})


def upload(on: "Request", content: bytes, oid: str) -> None:
    if hashlib.sha256(content).hexdigest() != oid:
        raise RefusedError(400, "the bytes are not what their address says")
    on.hub.put(content, lfs=True)
    on.answer(200)


def commit(on: "Request", content: bytes, kind: str, id: str, revision: str) -> None:
    repo = on.repo(kind, id, write=True)
    lines = [json.loads(line) for line in content.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    before = repo.resolve(revision)
    if header.get("parentCommit") not in {None, before}:
        raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repo.commits[before])
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = on.hub.put(base64.b64decode(value["content"]), lfs=False)
        elif line["key"] == "lfsFile":
            if not (on.hub.folder / value["oid"]).exists():
                raise RefusedError(400, f"the object {value['oid']} was not uploaded")
            files[value["path"]] = File(value["oid"], int(value["size"]), lfs=True)
        elif line["key"] == "deletedFile":
            del files[value["path"]]
    oid = repo.commit(revision, files, header["summary"])
    prefix = "" if kind == "models" else f"{kind}/"
    url = f"{on.hub.url}/{prefix}{id}/commit/{oid}"
    on.answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def tag(on: "Request", content: bytes, kind: str, id: str, revision: str) -> None:
    repo, name = on.repo(kind, id, write=True), json.loads(content)["tag"]
    if name in repo.tags:
        raise RefusedError(409, "the tag exists")
    repo.tags[name] = repo.resolve(revision)
    on.answer(200)


def resolve(on: "Request", _: bytes, kind: str | None, id: str, revision: str, path: str) -> None:
    repo = on.repo(kind, id)
    oid = repo.resolve(revision)
    file = repo.commits[oid].get(path)
    if file is None:
        raise RefusedError(404, "Entry not found", "EntryNotFound")
    content = (on.hub.folder / file.oid).read_bytes()
    headers = {"ETag": f'"{file.oid}"', "X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
    start = re.fullmatch(r"bytes=(\d+)-", on.headers.get("Range") or "")
    if start is None:
        on.answer(200, content, **headers)
        return
    first, size = int(start.group(1)), len(content)
    on.answer(206, content[first:], **headers, Content_Range=f"bytes {first}-{size - 1}/{size}")


def route(on: "Request", content: bytes) -> None:
    """Answer a request, or refuse it."""
    for (methods, pattern), act in ROUTES.items():
        found = re.fullmatch(pattern, on.where)
        if found and on.command in methods.split():
            act(on, content, **found.groupdict())
            return
    raise RefusedError(404, f"the test server does not know {on.command} {on.where}")


ROUTES: dict[tuple[str, str], Callable[..., None]] = {
    ("GET", "/api/whoami-v2"): whoami,
    ("POST", "/api/validate-yaml"): validate,
    ("POST", "/api/repos/create"): create,
    ("GET", f"/api/{_REPO}"): info,
    ("GET", f"/api/{_REPO}/revision/(?P<revision>.+)"): info,
    ("GET", f"/api/{_REPO}/refs"): refs,
    ("GET", f"/api/{_REPO}/commits/(?P<revision>.+)"): commits,
    ("GET", f"/api/{_REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?"): tree,
    ("POST", f"/api/{_REPO}/paths-info/(?P<revision>.+)"): paths_info,
    ("POST", f"/api/{_REPO}/preupload/(?P<revision>.+)"): preupload,
    ("POST", f"/api/{_REPO}/commit/(?P<revision>.+)"): commit,
    ("POST", f"/api/{_REPO}/tag/(?P<revision>.+)"): tag,
    ("POST", rf"/{_FILES}\.git/info/lfs/objects/batch"): batch,
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})"): upload,
    ("GET HEAD", f"/{_FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"): resolve,
}
