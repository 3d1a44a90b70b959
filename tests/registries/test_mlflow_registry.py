"""The registry on a real MLflow (SQLite): one version a digest, no pickles, clear errors."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from ftdm_assets.provenance.digests import folder_digest
from ftdm_assets.registries.mlflow_registry import (
    Registration,
    RegistryError,
    local_uri,
    register,
    set_aliases,
    version_name,
)

# MLflow's own code uses what SQLAlchemy and others deprecate.
pytestmark = pytest.mark.filterwarnings("ignore")


def wanted(folder: Path, content: bytes) -> Registration:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    return Registration(
        model="demo",
        folder=folder,
        digest=folder_digest(folder),
        parameters={"epochs": 1},
        metrics={"accuracy": 0.5},
        tags={"ftdm.adapter": "a" * 64},
        documents={"model_card.md": "# Card"},
        dagster_run_id="run-1",
    )


def test_versions_are_counted_and_bound_to_digests(tmp_path: Path) -> None:
    uri, artifacts = local_uri(tmp_path), tmp_path / "artifacts"
    first = register(uri, artifacts, wanted(tmp_path / "m1", b"one"))
    second = register(uri, artifacts, wanted(tmp_path / "m2", b"two"))
    again = register(uri, artifacts, wanted(tmp_path / "m1", b"one"))
    assert (first.version, second.version) == ("demo-v0001", "demo-v0002")
    assert again == first
    set_aliases(uri, "demo", second.number, first.number)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    assert client.get_model_version_by_alias("demo", "champion").version in {2, "2"}
    assert client.get_model_version_by_alias("demo", "previous").version in {1, "1"}
    stored = client.get_run(first.run_id)
    assert stored.data.tags["dagster.run_id"] == "run-1"
    assert stored.data.metrics == {"accuracy": 0.5}
    assert stored.info.status == "FINISHED"
    kept = [path for path in artifacts.rglob("*") if path.is_file()]
    assert any(path.read_bytes() == b"one" for path in kept)
    assert not [path for path in kept if path.suffix in {".pkl", ".pickle", ".bin", ".pt"}]


def test_aliases_of_an_unknown_model_say_that_production_is_unharmed(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="production is not affected"):
        set_aliases(local_uri(tmp_path), "nothing", 1, None)


def test_a_version_s_name_has_four_digits() -> None:
    assert version_name("demo", 7) == "demo-v0007"
