"""The local Hub as the real client uses it for a model: cut in the middle, gone on with, read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ftdm_assets.hub import HubUnreachableError
from ftdm_assets.provenance.digests import folder_digest
from ftdm_assets.registries.hub_repo import Upload, push
from tests.hub.client import point_to
from tests.hub.server import FaultyHub, Request, hub, on


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    with hub(tmp_path / "hub") as made:
        point_to(monkeypatch, made, tmp_path / "cache")
        yield made


def test_a_model_is_uploaded_cut_off_and_gone_on_with(there: FaultyHub, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for n in range(3):
        (folder / f"model-{n}.safetensors").write_bytes(bytes([n]) * 300_000)
    (folder / "sub" / "config.json").write_text("{}")
    names = [path for path in folder.rglob("*") if path.is_file()]
    files: dict[str, bytes | Path] = {str(path.relative_to(folder)): path for path in names}
    digest = folder_digest(folder)
    upload = Upload("org/model", "model", files, digest, folder_digest, "v1")
    there.fault = on("PUT /lfs/", Request.cut, after=1)
    with pytest.raises(HubUnreachableError, match=r"org/model \(model repository\): the conn"):
        push(upload)
    repo = there.repos["models", "org/model"]
    assert len(repo.log) == 1
    kept = there.count("PUT /lfs/")
    there.fault = lambda _: False
    made = push(upload)
    # The one that was whole is not sent again.
    assert there.count("PUT /lfs/") == kept + 2
    assert HfApi().list_repo_commits("org/model")[0].commit_id == made.commit
    there.repos["models", "org/model"].commit("main", {}, "emptied")
    copy = Path(snapshot_download("org/model", revision=made.tag))
    assert (copy / "sub" / "config.json").read_text() == "{}"
    assert (copy / "model-2.safetensors").read_bytes() == bytes([2]) * 300_000
    assert push(upload).made is False


def test_what_is_not_there_or_not_allowed_is_refused(there: FaultyHub) -> None:
    there.create("models", "org/model")
    with pytest.raises(RevisionNotFoundError):
        snapshot_download("org/model", revision="v9")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info("org/model")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info("org/other")
