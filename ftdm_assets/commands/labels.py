"""``ftdm labels init`` and ``ftdm labels review``: texts go to Label Studio, answers come back.

The answers need no command: they are in the next snapshot of the source.
"""

from dataclasses import replace
from pathlib import Path

from ftdm_assets.commands import output
from ftdm_assets.graph.cleaned_dataset import clean_settings
from ftdm_assets.graph.labels import chosen_rows
from ftdm_assets.home import store
from ftdm_assets.model_folder import ModelFolder, load_model
from ftdm_assets.provenance.store import StoreError
from ftdm_assets.records.doubts import in_doubt
from ftdm_assets.records.label_errors import Suspect
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.files import input_column
from ftdm_assets.sources.label_studio import LabelStudioSource
from ftdm_assets.sources.label_studio_project import (
    ensure_project,
    ensure_webhook,
    send_reviews,
    send_texts,
)
from ftdm_assets.sources.tables import SourceError, load_table, read_text


def init(name: str, texts: Path, as_json: bool) -> int:
    """Make the project if it is not there, and add the texts that it does not hold."""
    model = _model(name)
    wanted = read_texts(texts, model.settings.labels.columns.input)
    project, made = ensure_project(model)
    ensure_webhook(model, project)
    sent = send_texts(model, wanted)
    url = f"{model.settings.labels.label_studio.url.rstrip('/')}/projects/{project}"
    if as_json:
        output.print_json({"project": project, "made": made, "sent": sent, "url": url})
    else:
        output.say(
            f"project {project} {'made' if made else 'was there'}; {sent} of {len(wanted)} texts "
            f"added, the others were there: {url}"
        )
    return output.DONE


def review(name: str, below: float | None, limit: int, as_json: bool) -> int:
    """Send what is in doubt back to the labellers."""
    if limit < 1:
        raise SettingsError(f"--limit: expected at least 1, found {limit}")
    if below is not None and not 0 < below <= 1:
        raise SettingsError(f"--below: expected a share in (0, 1], such as 0.7; found {below}")
    model = _model(name)
    settings = clean_settings(model)
    if below is not None:
        settings = replace(settings, minimum_consensus=below)
    items = in_doubt(
        chosen_rows(model, LabelStudioSource(model).read().frame), settings, suspected(model)
    )
    sent = send_reviews(model, items, limit)
    if as_json:
        output.print_json({"in_doubt": len(items), "sent": [item.row() for item in sent]})
        return output.DONE
    if sent:
        output.table(("why", "text"), [(item.why, item.input[:70]) for item in sent])
    output.say(f"{len(sent)} review tasks sent; {len(items)} texts are in doubt")
    return output.DONE


def suspected(model: ModelFolder) -> list[Suspect]:
    """Return the suspected label errors of the cleaned dataset, if it was made."""
    try:
        _, manifest = store().head(model.name, "cleaned_dataset")
        entry = manifest.attachments["suspects"]
        rows = store().read_records(entry["kind"], entry["digest"])
    except (StoreError, KeyError):
        return []
    fields = ("record_id", "given", "suggested", "confidence")
    return [Suspect(*(row[field] for field in fields)) for row in rows]


def read_texts(path: Path, column: str | None) -> list[str]:
    """Read unlabelled texts: a text file with one a line, or a column of a table.

    Raises:
        SourceError: naming file, row and remedy.
    """
    if path.suffix.lower() == ".txt" and path.is_file():
        return [line for line in read_text(path).splitlines() if line.strip()]
    table = load_table(path)
    found = input_column(table, column)
    for number, row in table.rows:
        if not isinstance(row.get(found), str):
            raise SourceError(f"{table.place(number)}: {found!r} holds no text; write a string")
    return [str(row[found]) for _, row in table.rows]


def _model(name: str) -> ModelFolder:
    model = load_model(name)
    if model.settings.labels.source != "label_studio":
        raise SettingsError(
            f"{model.folder / 'defs.yaml'}: attributes.labels.source: expected `label_studio` for "
            f"this command, found {model.settings.labels.source!r}; example: `source: label_studio`"
        )
    if model.settings.task.kind == "generation":
        raise SettingsError(
            f"{model.folder / 'defs.yaml'}: attributes.task.kind: this command's projects ask "
            "for labels; for texts set one up by hand, and let `labels.path` name its export"
        )
    return model
