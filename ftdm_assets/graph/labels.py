"""Stage ``labels``: the raw snapshot, and how label source and golden file are read."""

import hashlib
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from ftdm_assets import agreement_pictures
from ftdm_assets.graph import outputs, protection
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.agreement import AgreementResult, agreement
from ftdm_assets.records.contract import REVIEW, contract_problems
from ftdm_assets.records.frames import plain_rows
from ftdm_assets.sources.label_source import label_source
from ftdm_assets.sources.places import local_copy
from golden.examples import GoldenFile, chosen, read_golden_file

GROUP = "labels"
RAW_LABELS = "raw_labels"
LABEL_SOURCE = "label_source"
GOLDEN_SOURCE = "golden_source"
SHOWN = 5


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the raw snapshot."""
    labels = model.settings.labels
    task = outputs.config(model)
    raw_config = labels.model_dump(
        include={
            "source": True,
            "hugging_face": True,
            "argilla": {"field", "question"},
            "columns": True,
            "data_class": True,
            "sample": True,
            "labels_only": True,
        }
    )
    if labels.source == "label_studio":
        raw_config["label_studio"] = labels.label_studio.model_dump(include={"url", "project"})
    if labels.argilla.url:
        raw_config["argilla"] |= labels.argilla.model_dump(include={"url", "workspace", "dataset"})
    return [
        AssetPlan(
            name=RAW_LABELS,
            group=GROUP,
            description="An immutable snapshot of the label source: every annotation with "
            "annotator, time, source and data class.",
            build=_build_raw,
            version="3",
            config={**raw_config, **task},
            sources=lambda m: {LABEL_SOURCE: label_source(m).state()},
            source_names=(LABEL_SOURCE,),
            kinds=("jsonl",),
        ),
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of the raw snapshot."""
    labels = model.settings.labels
    return [
        CheckPlan("raw_labels", "schema", "Every row keeps the contract.", _schema),
        CheckPlan(
            "raw_labels",
            "enough_examples",
            "Enough labelled examples to fine-tune on.",
            lambda r: _enough(r, labels.minimum),
            {"minimum": labels.minimum},
        ),
        CheckPlan(
            "raw_labels",
            "recommended_examples",
            "As many examples as a small model needs to be trusted.",
            lambda r: _enough(r, labels.recommended),
            {"recommended": labels.recommended},
            severity="warn",
        ),
        outputs.raw_check(model),
        *protection.checks(model),
        *_agreement_checks(model),
        CheckPlan(
            "raw_labels",
            "freshness",
            "The newest annotation is recent.",
            lambda r: _freshness(r, labels.maximum_age_days),
            {"maximum_age_days": labels.maximum_age_days},
            severity="warn",
        ),
    ]


def _agreement_checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the check of agreement, where two people who differ cannot both be right."""
    form, minimum = model.output_form(), model.settings.labels.minimum_alpha
    if form is not None and not form.exclusive:
        return []
    return [
        CheckPlan(
            "raw_labels",
            "agreement",
            "Annotators who labelled the same text agree.",
            lambda r: _agreement(r, minimum),
            {"minimum_alpha": minimum},
        )
    ]


def read_raw(model: ModelFolder) -> pd.DataFrame:
    """Read the label source as the raw frame, with the settings' labels and sample.

    Raises:
        SourceError: naming source, row and remedy.
    """
    return chosen_rows(model, label_source(model).read().frame)


def chosen_rows(model: ModelFolder, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a raw frame that the settings' labels and sample choose."""
    settings, form = model.settings.labels, model.output_form()
    if form is not None:
        frame = frame.assign(output=[form.canonical(text) for text in frame["output"]])
    if settings.labels_only is not None:
        frame = frame[frame["output"].isin(settings.labels_only)]
    return _sample(frame, settings.sample)


def read_golden(model: ModelFolder) -> GoldenFile:
    """Read the golden file, with the settings' labels and sample.

    Raises:
        GoldenError: naming file, row and remedy.
    """
    settings = model.settings.golden
    with local_copy(model, settings.path, "golden.path") as path:
        read = read_golden_file(
            path,
            input_column=settings.columns.input,
            output_column=settings.columns.output,
            json_output=model.settings.task.kind == "extraction",
        )
    only = model.settings.labels.labels_only
    return replace(read, examples=chosen(read.examples, only, settings.sample))


def _sample(frame: pd.DataFrame, size: int | None) -> pd.DataFrame:
    """Take rows by the hash of their content: the same rows whatever their order."""
    if size is None or size >= len(frame):
        return frame.reset_index(drop=True)
    ranks = frame["input"].map(_rank) + frame["record_id"]
    return frame.loc[ranks.sort_values().index[:size]].sort_values("row").reset_index(drop=True)


def _rank(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _build_raw(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    snapshot = label_source(model).read()
    frame = chosen_rows(model, snapshot.frame)
    problems = contract_problems(frame)
    form = model.output_form()
    rows = plain_rows(frame.drop(columns="row"))
    artifact = reading.store.put_records("snapshot", rows)
    said = frame[frame["role"] != REVIEW]
    agreed = agreement(said if form is None or form.exclusive else said.iloc[:0])
    tools.say(f"{len(frame)} annotations by {frame['annotator'].nunique()} annotators read")
    return Built(
        artifact,
        facts={
            "rows": len(frame),
            "annotators": {str(k): int(v) for k, v in frame["annotator"].value_counts().items()},
            "reviews": int((frame["role"] == REVIEW).sum()),
            "source": label_source(model).description,
            "problems": len(problems),
            "first_problems": [outputs.told(problem) for problem in problems[:SHOWN]],
            **outputs.facts(frame, model),
            "alpha": agreed.alpha,
            "items_with_several_annotators": agreed.items,
            "kappa_by_annotator": {
                one.annotator: {"items": one.items, "kappa": one.kappa}
                for one in agreed.by_annotator
            },
            **({} if form else {"kappa_by_label": _kappa_by_label(agreed)}),
            "newest": str(frame["annotated_at"].max()) if len(frame) else "",
            "data_classes": protection.data_classes(frame),
        },
        attachments={"agreement": reading.store.put_document("agreement", asdict(agreed))},
        pictures=_agreement_pictures(agreed, by_label=form is None),
        sources={LABEL_SOURCE: snapshot.state},
    )


def _kappa_by_label(agreed: AgreementResult) -> dict[str, Any]:
    return {one.label: {"items": one.items, "kappa": one.kappa} for one in agreed.by_label}


def _agreement_pictures(agreed: AgreementResult, *, by_label: bool) -> dict[str, bytes]:
    """Draw the agreement, where two annotators have met."""
    if not agreed.items:
        return {}
    drawn = {"agreement of annotators": agreement_pictures.agreement_matrix(agreed)}
    if by_label:
        drawn["agreement on labels"] = agreement_pictures.label_agreement(agreed)
    return drawn


def _place(reading: Reading) -> str:
    return str(reading.manifest("raw_labels").facts["source"])


def _schema(reading: Reading) -> Outcome:
    facts = reading.manifest("raw_labels").facts
    measured = {"problems": facts["problems"], "first": facts["first_problems"]}
    if facts["problems"]:
        first = facts["first_problems"][0]
        return Outcome(False, f"{_place(reading)}, {first} ({facts['problems']} in all)", measured)
    return Outcome(True, f"all {facts['rows']} rows keep the contract", measured)


def _enough(reading: Reading, minimum: int) -> Outcome:
    rows = int(reading.manifest("raw_labels").facts["rows"])
    measured = {"rows": rows}
    if rows < minimum:
        return Outcome(
            False,
            f"{_place(reading)} has {rows} labelled examples, {minimum} are needed; label more",
            measured,
        )
    return Outcome(True, f"{rows} labelled examples, at least {minimum} asked for", measured)


def _agreement(reading: Reading, minimum: float) -> Outcome:
    facts = reading.manifest("raw_labels").facts
    alpha, items = facts["alpha"], facts["items_with_several_annotators"]
    measured = {"alpha": alpha, "items": items}
    if alpha is None:
        return Outcome(True, "no text was labelled by two annotators; nothing to compare", measured)
    text = f"Krippendorff's alpha is {alpha:.3f} over {items} texts, {minimum} asked for"
    if alpha < minimum:
        return Outcome(False, f"{text}; sharpen the label descriptions and relabel", measured)
    return Outcome(True, text, measured)


def _freshness(reading: Reading, maximum_days: int) -> Outcome:
    newest = str(reading.manifest("raw_labels").facts["newest"])
    if not newest:
        return Outcome(True, "the source gives no annotation times", {"newest": None})
    age = (pd.Timestamp.now(tz="UTC") - pd.to_datetime(newest, utc=True)).days
    text = f"the newest annotation is {age} days old, at most {maximum_days} wanted"
    return Outcome(bool(age <= maximum_days), text, {"newest": newest, "age_days": int(age)})
