"""Hugging Face datasets (real saved folders) and Argilla (a recorded REST answer)."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from ftdm_assets.records.contract import contract_problems
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.hugging_face import HuggingFaceSource
from ftdm_assets.sources.label_source import label_source
from ftdm_assets.sources.tables import SourceError
from tests.graph.samples import model_folder


def hub(tmp_path: Path, **named: Any) -> Any:
    labels = {"source": "hugging_face", "hugging_face": named, "data_class": "public"}
    return label_source(model_folder(tmp_path / "model", labels=labels))


def saved(tmp_path: Path, texts: list[str] | None = None) -> Path:
    """Save a dataset with two splits, whose labels are class numbers, one of them missing."""
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["billing", "shipping"]),
        }
    )
    texts = texts or ["a charge", "a parcel", "neither"]
    rows = {"text": texts, "label": [0, 1, -1][: len(texts)]}
    train = datasets.Dataset.from_dict(rows, features=features)
    test = datasets.Dataset.from_dict({"text": ["t"], "label": [1]}, features=features)
    folder = tmp_path / "saved"
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(folder))
    return folder


def test_a_saved_folder_is_read_with_its_class_names(tmp_path: Path) -> None:
    source = hub(tmp_path, dataset=str(saved(tmp_path)))
    frame = source.read().frame
    assert list(frame["output"]) == ["billing", "shipping", ""]
    assert list(frame["record_id"]) == [f"saved-train-{n:06d}" for n in (1, 2, 3)]
    assert set(frame["data_class"]) == {"public"}
    assert [problem.column for problem in contract_problems(frame)] == ["output"]
    test = hub(tmp_path, dataset=str(tmp_path / "saved"), split="test")
    assert list(test.read().frame["input"]) == ["t"]
    assert test.state() != source.state()


def test_a_changed_folder_has_another_state_and_is_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = hub(tmp_path, dataset=str(saved(tmp_path)))
    state, load = source.state(), HuggingFaceSource._load

    def load_and_change(self: HuggingFaceSource, aside: Path) -> Any:
        loaded = load(self, aside)
        (tmp_path / "saved" / "note.txt").write_text("changed")
        return loaded

    monkeypatch.setattr(HuggingFaceSource, "_load", load_and_change)
    with pytest.raises(SourceError, match="the folder changed while it was read"):
        source.read()
    assert source.state() != state


@pytest.mark.parametrize("revision", [None, "main", "v1", "0" * 39])
def test_a_hub_dataset_needs_a_commit(tmp_path: Path, revision: str | None) -> None:
    source = hub(tmp_path, dataset="org/name", revision=revision)
    for ask in (source.state, source.read):
        with pytest.raises(SettingsError, match=r"revision: 'org/name' is no folder.*40 digits"):
            ask()


def test_a_split_that_is_not_there_and_a_hub_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(saved(tmp_path))
    with pytest.raises(SettingsError, match="split: expected one of: train, test"):
        hub(tmp_path, dataset=folder, split="dev").read()
    (tmp_path / "saved" / "train" / "state.json").write_text("{")
    with pytest.raises(SourceError, match="split train: cannot be read"):
        hub(tmp_path, dataset=folder).read()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match=r"train at 000000000000: HF_HUB_OFFLINE is set; unset"):
        hub(tmp_path, dataset="org/name", revision="0" * 40).read()


def response(number: int, user: str | None, value: Any, status: str = "submitted") -> Any:
    return {
        "id": f"resp-{number}",
        "values": {"label": {"value": value}} if value else None,
        "status": status,
        "record_id": "ignored",
        "user_id": user,
        "inserted_at": "2026-03-01T09:00:00",
        "updated_at": f"2026-03-01T09:{number:02d}:00",
    }


def record(number: int, *responses: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"rec-{number}",
        "external_id": None,
        "fields": {"text": f"text {number}"},
        "metadata": {},
        "responses": list(responses),
        "suggestions": [{"question_id": "q", "value": "suggested", "agent": "some-model"}],
        "dataset_id": "ds-1",
        "inserted_at": "2026-03-01T08:00:00",
        "updated_at": "2026-03-01T09:00:00",
        **changes,
    }


RECORDED = {
    "items": [
        record(1, response(1, "u-ana", "a"), response(2, "u-ben", "b"), external_id="T-1"),
        record(2, response(3, "u-ana", "a", "draft"), response(4, "u-ben", None, "discarded")),
        record(3, response(5, None, "b")),
        record(4),
    ],
    "total": 4,
}


def argilla(tmp_path: Path, document: Any, **named: str) -> Any:
    (tmp_path / "export.json").write_text(
        document if isinstance(document, str) else json.dumps(document)
    )
    labels = {"source": "argilla", "path": str(tmp_path / "export.json"), "argilla": named}
    return label_source(model_folder(tmp_path / "model", labels=labels))


def test_each_submitted_response_is_an_annotation_and_nothing_else_is(tmp_path: Path) -> None:
    source = argilla(tmp_path, RECORDED)
    frame = source.read().frame
    columns = ["record_id", "input", "output", "annotator", "annotated_at", "source", "row"]
    assert frame[columns].to_numpy().tolist() == [
        ["T-1/resp-1", "text 1", "a", "u-ana", "2026-03-01T09:01:00", "argilla ds-1", 1],
        ["T-1/resp-2", "text 1", "b", "u-ben", "2026-03-01T09:02:00", "argilla ds-1", 2],
        ["rec-3/resp-5", "text 3", "b", "deleted user", "2026-03-01T09:05:00", "argilla ds-1", 3],
    ]
    assert contract_problems(frame) == []
    assert "suggested" not in set(frame["output"])
    state = source.state()
    assert argilla(tmp_path, [RECORDED]).state() != state
    items = RECORDED["items"]
    assert isinstance(items, list)
    pages = [{"items": items[:2], "total": 4}, {"items": items[2:], "total": 4}]
    assert argilla(tmp_path, pages).read().frame.equals(frame)


@pytest.mark.parametrize(
    ("document", "named", "message"),
    [
        ("{", {}, "export.json: not valid JSON"),
        ({"records": []}, {}, "expected Argilla's REST answer, an object with `items`"),
        ({"items": []}, {}, "there is no submitted response"),
        ({**RECORDED, "total": 9}, {}, r"says \[9\] records and holds 4"),
        (RECORDED, {"question": "topic"}, r"record rec-1: 'topic' is missing; check labels.argil"),
        (RECORDED, {"field": "body"}, "record rec-1: 'body' is missing"),
        ({"items": [record(1, responses=None)]}, {}, "record rec-1: the responses have no status"),
        (
            {"items": [record(1, responses={"label": [{"value": "a", "user_id": "u"}]})]},
            {},
            "an export of Argilla's Python client; record the REST answer",
        ),
        ({"items": [7]}, {}, "record 7:"),
        ({"items": [record(1, response(1, "u", "a"), response(1, "u", "b"))]}, {}, "was given to"),
    ],
)
def test_an_export_that_cannot_be_trusted_is_refused(
    tmp_path: Path, document: Any, named: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        argilla(tmp_path, document, **named).read()


def test_each_source_needs_its_own_key(tmp_path: Path) -> None:
    for source, key in (("file", "path"), ("argilla", "path"), ("hugging_face", "hugging_face")):
        with pytest.raises(SettingsError, match=rf"attributes\.labels\.{key}: this key is needed"):
            model_folder(tmp_path / "model", labels={"source": source})
