"""The Hub as the registry, with the real client: one private tagged commit a version, by digest."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ftdm_assets.cli import main
from ftdm_assets.hub import HubError, HubUnreachableError
from ftdm_assets.provenance.digests import folder_digest
from ftdm_assets.registries import chosen
from ftdm_assets.registries.hub_registry import pull, register
from ftdm_assets.registries.hub_repo import HubMismatchError, tag_of
from ftdm_assets.registries.mlflow_registry import Registration, RegistryError
from ftdm_assets.release_settings import RegistrySettings
from tests.hub.client import point_to
from tests.hub.server import FaultyHub, Request, hub, on

TO = "org/tickets"
DEFS = """\
type: ftdm_assets.DomainModel
attributes:
  name: demo
  task: {instruction: Sort., taxonomy: [a, b]}
  labels: {path: labels.jsonl}
  golden: {path: golden.jsonl}
  registry: {kind: huggingface, repository: org/tickets}
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    with hub(tmp_path / "hub") as made:
        point_to(monkeypatch, made, tmp_path / "cache")
        yield made


def wanted(folder: Path, number: int, shards: int = 1) -> Registration:
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        (folder / f"model-{shard}.safetensors").write_bytes(bytes([number, shard]) * 100_000)
    (folder / "config.json").write_text(json.dumps({"n": number}))
    (folder / "sub" / "merges.txt").write_text("a b")
    return Registration(
        model="demo",
        folder=folder,
        digest=folder_digest(folder),
        parameters={},
        metrics={"accuracy": 0.5},
        tags={"ftdm.adapter": "a" * 64},
        documents={"model_card.md": f"# Card {number}\n", "bom.json": "{}"},
        dagster_run_id="run-1",
    )


def test_versions_are_private_tagged_commits_that_hold_nothing_else(
    there: FaultyHub, tmp_path: Path
) -> None:
    first = register(TO, wanted(tmp_path / "one", 1, shards=2))
    second = register(TO, wanted(tmp_path / "two", 2))
    assert (first.version, second.version) == ("demo-v0001", "demo-v0002")
    repo = there.repos["models", TO]
    assert repo.private
    commit = second.uri.rpartition("@")[2]
    assert second.uri == f"hf://{TO}@{repo.branches['main']}"
    assert repo.tags["v0002"] == repo.tags[tag_of(folder_digest(tmp_path / "two"))] == commit
    # The second shard of the first version is gone, the card is the second's.
    assert set(repo.commits[commit]) - {".gitattributes"} == {
        "README.md", "config.json", "ftdm/bom.json", "model-0.safetensors", "sub/merges.txt",
    }  # fmt: skip
    card = ModelCard((there.folder / repo.commits[commit]["README.md"].oid).read_text())
    assert card.data["ftdm"]["digest"] == folder_digest(tmp_path / "two")
    assert card.data["ftdm"]["adapter"] == "a" * 64
    assert "# Card 2" in card.text
    # Again: nothing new, the same version.
    commits = len(repo.log)
    assert register(TO, wanted(tmp_path / "one", 1, shards=2)) == first
    assert len(repo.log) == commits


def test_an_upload_cut_in_the_middle_is_gone_on_with(there: FaultyHub, tmp_path: Path) -> None:
    version = wanted(tmp_path / "one", 1, shards=3)
    there.fault = on("PUT /lfs/", Request.cut, after=1)
    with pytest.raises(HubUnreachableError, match="the connection to the Hub failed"):
        register(TO, version)
    repo = there.repos["models", TO]
    assert not repo.tags
    sent = there.count("PUT /lfs/")
    # Cut again, after the commit: it is used, not made twice.
    there.fault = on("POST /api/models/.*/tag", Request.cut)
    with pytest.raises(HubUnreachableError):
        register(TO, version)
    there.fault = lambda _: False
    assert register(TO, version).version == "demo-v0001"
    assert there.count("PUT /lfs/") == sent + 2
    assert len(repo.log) == 2
    assert set(repo.tags) == {"v0001", tag_of(version.digest)}


def test_a_pull_is_by_digest_and_verified(there: FaultyHub, tmp_path: Path) -> None:
    version = wanted(tmp_path / "one", 1, shards=2)
    register(TO, version)
    register(TO, wanted(tmp_path / "two", 2))
    commit = pull(TO, version.digest, tmp_path / "new" / "copy")
    repo = there.repos["models", TO]
    assert commit == repo.tags["v0001"]
    assert (tmp_path / "new/copy/README.md").read_text().endswith("# Card 1\n")
    for name in ("model-1.safetensors", "sub/merges.txt"):
        assert (tmp_path / "new/copy" / name).read_bytes() == (version.folder / name).read_bytes()
    with pytest.raises(HubError, match="exists and is never overwritten"):
        pull(TO, version.digest, tmp_path / "new" / "copy")
    with pytest.raises(HubError, match="there is no version with the digest bbb"):
        pull(TO, "b" * 64, tmp_path / "other")
    # Somebody moves the tag: the digest is what counts.
    repo.tags[tag_of(version.digest)] = repo.tags["v0002"]
    with pytest.raises(HubMismatchError, match=f"gives [0-9a-f]{{64}} for {version.digest}"):
        pull(TO, version.digest, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.glob("*other*")) == []


def test_the_command(
    there: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    version = wanted(tmp_path / "one", 1)
    register(TO, version)
    folder = tmp_path / "models" / "demo"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(DEFS)
    monkeypatch.setenv("FTDM_MODELS", str(folder.parent))

    def ftdm(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["ftdm", "registry", "pull", "demo", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out or told.err

    copy = str(tmp_path / "copy")
    code, out = ftdm("--digest", version.digest, "--to", copy, "--json")
    assert (code, json.loads(out)["commit"]) == (0, there.repos["models", TO].tags["v0001"])
    assert ftdm("--digest", version.digest, "--to", copy)[0] == 2
    assert "64 hex digits" in ftdm("--digest", "v0001", "--to", copy)[1]
    (folder / "defs.yaml").write_text(
        DEFS.replace("{kind: huggingface, repository: org/tickets}", "{}")
    )
    assert "names no repository" in ftdm("--digest", version.digest, "--to", copy)[1]


def test_both_registries_carry_one_number(there: FaultyHub, tmp_path: Path) -> None:
    settings = RegistrySettings(kind="both", repository=TO)
    home = tmp_path / "home"
    # MLflow alone has counted one already.
    chosen.register(RegistrySettings(), home, wanted(tmp_path / "zero", 9))
    at_mlflow, at_hub = chosen.register(settings, home, wanted(tmp_path / "one", 1))
    assert at_mlflow.version == at_hub.version == "demo-v0002"
    assert "v0002" in there.repos["models", TO].tags
    there.fault = on("GET /api/whoami", Request.cut)
    with pytest.raises(RegistryError, match=r"org/tickets \(model repository\): the connection"):
        chosen.register(settings, home, wanted(tmp_path / "two", 2))
    there.fault = lambda _: False
    # MLflow has it already; the Hub follows.
    again = chosen.register(settings, home, wanted(tmp_path / "two", 2))
    assert [one.version for one in again] == ["demo-v0003"] * 2


def test_a_public_repository_and_a_name_that_is_taken_are_refused(
    there: FaultyHub, tmp_path: Path
) -> None:
    there.create("models", TO, private=False)
    with pytest.raises(HubError, match="is public, nothing was sent there"):
        register(TO, wanted(tmp_path / "one", 1))
    there.repos.clear()
    version = wanted(tmp_path / "one", 1)
    register(TO, version)
    with pytest.raises(HubError, match=r"v0001 names [0-9a-f]{40} and not"):
        register(TO, wanted(tmp_path / "two", 2), number=1)
    (version.folder / "README.md").write_text("mine")
    with pytest.raises(HubError, match=r"README.md: the Hub's commit needs that name"):
        register(TO, version)
