"""Wrong YAML: the key's path, what was expected, an example."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftdm_assets.model_folder import find_models, load_folder
from ftdm_assets.settings import SettingsError, load_settings, parse_settings

GOOD: dict[str, Any] = {
    "name": "demo",
    "task": {"instruction": "Sort.", "taxonomy": ["a", "b"]},
    "labels": {"path": "labels.jsonl"},
    "golden": {"path": "golden.jsonl"},
}

TEXTS = {"kind": "generation", "instruction": "Write."}


def written(
    folder: Path, attributes: dict[str, Any], kind: str = "ftdm_assets.DomainModel"
) -> Path:
    path = folder / "demo" / "defs.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"type": kind, "attributes": attributes}))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gates": {"target_accuracy": "high"}}, "gates.target_accuracy: expected a valid number"),
        ({"gates": {"target_accuracy": 85}}, "example: `target_accuracy: 0.85`"),
        ({"labels": {"path": "x", "colums": {}}}, "attributes.labels.colums: there is no such key"),
        ({"serving": {"replicas": 1}}, "serving.replicas: expected greater than or equal to 2"),
        ({"serving": {"cache": {"ttl_s": 0}}}, "serving.cache.ttl_s: expected greater than"),
        ({"name": "Bad Name"}, "example: `name: support_tickets`"),
        ({"golden": {}}, "golden.path: this key is needed; example: `path: golden.jsonl`"),
        ({"task": {"kind": "guess", "instruction": "x", "taxonomy": ["a"]}}, "found 'guess'"),
        ({"base_model": {"source": "s3"}}, "attributes.base_model.source"),
        ({"safety": {"maximum_obeyed": 2}}, "attributes.safety.injected: this key is needed"),
        ({"baseline": {"endpoint": {"url": "https://a/v1"}}}, "example: `model: a-large-model`"),
        ({"baseline": {"endpoint": {"url": "https://a/v1", "model": "m", "key": "k"}}},
         "baseline.endpoint.key: there is no such key; expected one of: url, model, key_env"),
        ({"baseline": {"endpoint": {"url": "https://a/v1", "model": "m", "body": {"model": 1}}}},
         "baseline.endpoint.body: expected no `model`, it is set here"),
        ({"baseline": {"constrain": "on"}}, "baseline.constrain: expected 'auto' or 'off'"),
        ({"baseline": {"sample": 10}}, "baseline.sample: expected greater than or equal to 50"),
        ({"task": {**TEXTS, "taxonomy": ["a"]}}, "no `taxonomy` with kind generation"),
        ({"task": TEXTS, "serving": {"constrained": True}},
         "attributes: expected no `serving.constrained` with kind generation: a text is free"),
        ({"task": {**GOOD["task"], "maximum_words": 9}}, "no `maximum_words` with kind classific"),
        ({"task": {**TEXTS, "minimum_words": 9, "maximum_words": 8}}, "maximum_words of minimum"),
        ({"task": {**TEXTS, "required_phrases": [" "]}}, "task.required_phrases.0: expected"),
        ({"task": {**TEXTS, "judge": {"url": "https://me:pw@x", "model": "m"}}}, "task.judge.url"),
        ({"task": {**TEXTS, "minimum_rouge_l": 2}}, "example: `minimum_rouge_l: 0.2`"),
        ({"general": {"limit": 9}}, "general.lm_eval: this key is needed"),
        ({"general": {"lm_eval": []}}, "attributes.general.lm_eval: expected"),
        ({"general": {"lm_eval": ["a"], "questions": "q"}}, "either questions or lm_eval"),
        ({"answer_review": {"sample": 0}}, "example: `sample: 20`"),
        ({"serving": {"platform": "kubernetes"}}, "serving.kubernetes: this key is needed"),
        ({"serving": {"platform": "swarm"}}, "serving.platform: expected 'local' or 'kubernetes'"),
        ({"serving": {"kubernetes": {}}}, "serving.kubernetes.gateway_url: this key is needed"),
        ({"serving": {"kubernetes": {"gpus": 2}}}, "kubernetes.gpus: expected less than or equal"),
        ({"serving": {"kubernetes": {"engine_image": "vllm:latest"}}}, "`engine_image: REGISTRY"),
        ({"serving": {"kubernetes": {"gateway_url": "https://me:pw@g"}}}, "gateway_url: expected"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key_and_an_example(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(written(tmp_path, {**GOOD, **change}))
    assert told in str(error.value)
    assert "defs.yaml" in str(error.value)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    change = {"gates": {"target_accuracy": 2}, "canary": {"drop_points": -1}}
    with pytest.raises(SettingsError) as error:
        load_settings(written(tmp_path, {**GOOD, **change}))
    assert len(str(error.value).splitlines()) == 2


def test_personal_data_has_a_choice_for_each_data_class(tmp_path: Path) -> None:
    change = {"personal_data": "drop", "personal_data_by_class": {"public": "refuse"}}
    settings = load_settings(written(tmp_path, {**GOOD, "cleaning": change}))
    assert settings.cleaning.personal_data_of() == {
        "public": "refuse", "internal": "drop", "confidential": "drop", "restricted": "drop",
    }  # fmt: skip
    change = {"personal_data_by_class": {"publik": "refuse"}}
    with pytest.raises(SettingsError, match=r"personal_data_by_class\.publik.*'publik'"):
        load_settings(written(tmp_path, {**GOOD, "cleaning": change}))


def test_full_training_has_a_learning_rate_of_its_own_and_no_adapter(tmp_path: Path) -> None:
    def training(**change: Any) -> Any:
        return load_settings(written(tmp_path, {**GOOD, "training": change})).training

    assert training(method="full").learning_rate == 2e-5
    assert training(method="full", learning_rate=1e-4).learning_rate == 1e-4
    assert training(method="qlora").learning_rate == training().learning_rate == 1e-3
    with pytest.raises(SettingsError, match="no `lora` with method full, it has no adapter"):
        training(method="full", lora={"r": 8})
    with pytest.raises(SettingsError, match=r"training\.method: .*'lora', 'qlora' or 'full'"):
        training(method="dora")


def test_target_modules_are_names_or_all_linear(tmp_path: Path) -> None:
    def lora(**change: Any) -> Any:
        return load_settings(
            written(tmp_path, {**GOOD, "training": {"lora": change}})
        ).training.lora

    assert lora().target_modules is None
    assert lora(target_modules="all-linear").target_modules == "all-linear"
    refused: tuple[Any, ...] = ("q_proj", [])
    for wrong in refused:
        with pytest.raises(SettingsError, match=r"attributes\.training\.lora\.target_modules: "):
            lora(target_modules=wrong)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "defs.yaml"
    path.write_text("type: x\nattributes: [\n")
    with pytest.raises(SettingsError, match=r"defs.yaml line \d"):
        load_settings(path)


def test_another_component_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"expected `type: ftdm_assets\.DomainModel`"):
        load_settings(written(tmp_path, GOOD, kind="dagster.Something"))


def test_the_name_is_the_folder_s(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected the folder's name 'demo'"):
        load_folder(written(tmp_path, {**GOOD, "name": "other"}))


def test_secrets_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKING", "http://127.0.0.1:5000")
    change = {"registry": {"tracking_uri": "{{ env.TRACKING }}"}}
    settings = load_settings(written(tmp_path, {**GOOD, **change}))
    assert settings.registry.tracking_uri == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    "endpoint",
    [
        {"url": "https://user:s3cret@a/v1", "model": "m"},
        {"url": "https://a/v1?key=s3cret", "model": "m"},
        {"url": "https://a/v1", "model": "m", "body": {"api_key": "s3cret"}},
    ],
)
def test_a_secret_in_the_endpoint_is_refused_unseen(
    tmp_path: Path, endpoint: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match="the key comes from `key_env`") as error:
        load_settings(written(tmp_path, {**GOOD, "baseline": {"endpoint": endpoint}}))
    assert "s3cret" not in str(error.value)


def test_off_is_a_word_and_shots_follow_who_answers(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    bare = "attributes:\n  baseline: {constrain: off}\n"
    path.write_text(path.read_text().replace("attributes:\n", bare))
    assert load_settings(path).baseline.constrain == "off"
    assert load_settings(path).baseline.choice() == "fixed"
    endpoint = {"url": "https://a/v1", "model": "m"}
    changed = load_settings(written(tmp_path, {**GOOD, "baseline": {"endpoint": endpoint}}))
    assert changed.baseline.choice() == "nearest"


def test_a_probe_gates_labels_only(tmp_path: Path) -> None:
    task = {"kind": "extraction", "instruction": "x", "schema": "schema.json"}
    change = {"task": task, "baseline": {"probe_gates": True}}
    with pytest.raises(
        SettingsError, match=r"no `baseline\.probe_gates` with kind extraction"
    ) as error:
        load_settings(written(tmp_path, {**GOOD, **change}))
    assert "labels.jsonl" not in str(error.value)


def test_every_shipped_model_loads() -> None:
    models = {name: load_folder(path) for name, path in find_models().items()}
    assert len(models["support_tickets"].labels()) == 40


def test_a_taxonomy_that_is_no_mapping_says_what_it_should_be(tmp_path: Path) -> None:
    path = written(tmp_path, {**GOOD, "task": {"instruction": "x", "taxonomy": "t.yaml"}})
    (path.parent / "t.yaml").write_text("just text\n")
    with pytest.raises(SettingsError, match="expected `label: description`"):
        load_folder(path).labels()


def test_an_address_with_a_password_is_refused_without_it() -> None:
    server = {"url": "https://me:hidden@labels.example.org", "project": "p"}
    labels = {"source": "label_studio", "label_studio": server}
    with pytest.raises(SettingsError, match=r"url: expected .*found 'https://…@labels") as refused:
        parse_settings({**GOOD, "labels": labels}, "defs.yaml")
    assert "hidden" not in str(refused.value)


def test_settings_load_without_what_only_a_run_needs() -> None:
    program = "import sys, ftdm_assets.settings; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    assert "ftdm_assets.settings" in loaded
    heavy = {"dagster", "matplotlib", "mlflow", "pandas", "scipy", "sklearn", "torch"}
    assert loaded & heavy == set()
