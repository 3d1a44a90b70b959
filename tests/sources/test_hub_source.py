"""Labels from a dataset of the Hub: the real `datasets` against a Hub that really stores."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from ftdm_assets.provenance.store import with_digest
from ftdm_assets.records.contract import contract_problems
from ftdm_assets.registries.hub_dataset import dataset_digest, dataset_files
from ftdm_assets.registries.hub_repo import Upload, push
from ftdm_assets.sources.http_json import ServerError
from ftdm_assets.sources.label_source import label_source
from ftdm_assets.sources.tables import SourceError
from tests.graph.samples import model_folder
from tests.hub.client import point_to
from tests.hub.server import TOKEN, FaultyHub, failing, hub, on

DATA = "data/train-00000-of-00001.parquet"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    with hub(tmp_path / "hub") as made:
        point_to(monkeypatch, made, tmp_path / "cache")
        yield made


def source(tmp_path: Path, commit: str, **named: Any) -> Any:
    labels = {
        "source": "hugging_face",
        "hugging_face": {"dataset": "org/labels", "revision": commit, **named},
    }
    return label_source(model_folder(tmp_path / "model", labels=labels))


def committed(there: FaultyHub, *texts: str) -> str:
    """Commit a Parquet file of these texts to the branch `main`; return the commit."""
    repo = there.repos.get(("datasets", "org/labels")) or there.create("datasets", "org/labels")
    buffer = io.BytesIO()
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(texts)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    files = repo.commits[repo.branches["main"]]
    return repo.commit("main", {**files, DATA: there.put(buffer.getvalue(), lfs=True)}, "more")


def test_a_commit_is_read_and_stays_what_it_is_when_the_branch_moves(
    there: FaultyHub, tmp_path: Path
) -> None:
    first = committed(there, "one", "two")
    before = source(tmp_path, first).read()
    second = committed(there, "one", "two", "three")
    assert there.repos["datasets", "org/labels"].branches["main"] == second
    after = source(tmp_path, first).read()
    assert after.frame.equals(before.frame)
    assert after.state == before.state
    assert list(before.frame["input"]) == ["one", "two"]
    assert list(before.frame["record_id"]) == ["labels-train-000001", "labels-train-000002"]
    assert set(before.frame["source"]) == {f"org/labels, split train at {first[:12]}"}
    moved = source(tmp_path, second).read()
    assert list(moved.frame["input"]) == ["one", "two", "three"]
    assert moved.state != before.state


@pytest.mark.parametrize("times", [1, 10**9])
@pytest.mark.parametrize("where", ["GET /api/datasets", "HEAD /datasets", "GET /datasets"])
def test_what_was_read_before_never_stands_in_for_what_cannot_be_read(
    there: FaultyHub, tmp_path: Path, where: str, times: int
) -> None:
    first = committed(there, "one", "two")
    source(tmp_path, first).read()
    second = committed(there, "one", "two", "three")
    there.fault = on(where, failing(), times=times)
    asking = source(tmp_path, second)
    if times == 1:
        assert list(asking.read().frame["input"]) == ["one", "two", "three"]
        return
    with pytest.raises(SourceError, match=rf"org/labels, split train at {second[:12]}: ") as error:
        asking.read()
    assert "500" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda m, h: m.setenv("HF_TOKEN", "hf_wrong"), SourceError, "token is not accepted; set"),
        (lambda m, h: m.delenv("HF_TOKEN"), SourceError, "or this token may not see it; check"),
        (lambda m, h: h.repos.clear(), SourceError, "the Hub has no such repository"),
        (lambda m, h: setattr(h, "fault", failing()), ServerError, "the Hub answers 500, 3 times"),
        (
            lambda m, h: m.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9"),
            ServerError,
            "the connection to the Hub failed",
        ),
    ],
)
def test_a_hub_that_refuses_or_fails_is_one_sentence(
    there: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any, Any], None], kind: type[SourceError], message: str,
) -> None:  # fmt: skip
    commit = committed(there, "one", "two")
    change(monkeypatch, there)
    with pytest.raises(kind, match=message) as error:
        source(tmp_path, commit).read()
    assert "org/labels, split train at" in str(error.value)
    assert TOKEN not in str(error.value)
    assert "hf_wrong" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_commit_and_a_wrong_split_are_named(there: FaultyHub, tmp_path: Path) -> None:
    commit = committed(there, "one", "two")
    with pytest.raises(SourceError, match="at 000000000000: the Hub has no such revision"):
        source(tmp_path, "0" * 40).read()
    with pytest.raises(SourceError, match=r'split dev at .*Unknown split "dev"'):
        source(tmp_path, commit, split="dev").read()


def test_what_was_pushed_is_read_back(there: FaultyHub, tmp_path: Path) -> None:
    rows = [
        with_digest(
            {
                "record_id": f"r{n}", "input": f"text {n}\u2028é", "output": "ab"[n % 2],
                "annotator": "ana", "annotated_at": "2026-03-01T09:00:00Z", "source": "here",
                "data_class": "public", "actor": "ben", "role": "label", "votes": n,
                "consensus_confidence": 0.1 * n,
            }
        )
        for n in range(5)
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    files = dataset_files(rows, "# card\n")
    content = files[DATA]
    assert isinstance(content, bytes)
    (tmp_path / DATA).write_bytes(content)
    digest = dataset_digest(tmp_path)
    made = push(Upload("org/labels", "dataset", files, digest, dataset_digest, "labels"))
    frame = source(tmp_path, made.commit).read().frame
    assert contract_problems(frame) == []
    columns = ["record_id", "input", "output", "annotator", "annotated_at", "data_class", "source"]
    wanted = [[row[name] for name in columns] for row in rows]
    assert frame[columns].to_numpy().tolist() == wanted
