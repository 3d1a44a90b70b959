"""What a ``defs.yaml`` may say of labels and golden set: where they are read, how many it takes."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftdm_assets.records.data_classes import DataClass
from ftdm_assets.section import Section, VariableName

# Blank, or an address without user and password: those would stand in manifests and the UI.
_ADDRESS = r"^(https?://[^@\s]+)?$"


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

    url: str = Field("", pattern=_ADDRESS, examples=["https://labels.example.org"])
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
    token_env: VariableName = Field(
        "FTDM_ARGILLA_API_KEY",
        examples=["FTDM_ARGILLA_API_KEY"],
        description="The environment variable that holds the API key.",
    )


class LabelStudioSettings(ServerSettings):
    """A Label Studio project."""

    project: int | str = Field("", examples=["support_tickets"], description="Its id or title.")
    token_env: VariableName = Field(
        "FTDM_LABEL_STUDIO_TOKEN",
        examples=["FTDM_LABEL_STUDIO_TOKEN"],
        description="The environment variable that holds the access token.",
    )
    webhook: str = Field(
        "",
        pattern=_ADDRESS,
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
