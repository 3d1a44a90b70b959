"""``ftdm labels init`` and ``ftdm labels review``: texts go to Label Studio, answers come back.

The answers need no command: they are in the next snapshot of the source.
"""

from dataclasses import asdict
from pathlib import Path

from ftdm_assets.commands import output
from ftdm_assets.home import store
from ftdm_assets.model_folder import ModelFolder, load_model
from ftdm_assets.provenance.store import StoreError
from ftdm_assets.records.adjudication import needs_review
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.label_studio import LabelStudioSource
from ftdm_assets.sources.label_studio_project import ensure_project, send_reviews, send_texts
from ftdm_assets.sources.tables import SourceError, load_table

_TEXT_COLUMNS = ("text", "input", "utterance", "ticket", "message", "body", "content")


def init(name: str, texts: Path, as_json: bool) -> int:
    """Make the project if it is not there, and add the texts that it does not hold."""
    model = _model(name)
    wanted = read_texts(texts, model.settings.labels.columns.input)
    project, made = ensure_project(model)
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


def review(name: str, below: float, limit: int, as_json: bool) -> int:
    """Send what is in doubt back to the labellers."""
    if limit < 1:
        raise SettingsError(f"--limit: expected at least 1, found {limit}")
    if not 0 < below <= 1:
        raise SettingsError(f"--below: expected a share in (0, 1], such as 0.7; found {below}")
    model = _model(name)
    frame = LabelStudioSource(model).read().frame
    items = needs_review(frame, below, suspected(model))
    sent = send_reviews(model, items, limit)
    if as_json:
        output.print_json({"in_doubt": len(items), "sent": [asdict(item) for item in sent]})
        return output.DONE
    if sent:
        rows = [
            (item.reason, ", ".join(f"{k} {v}" for k, v in item.votes), item.input[:70])
            for item in sent
        ]
        output.table(("why", "votes", "text"), rows)
    output.say(f"{len(sent)} review tasks sent; {len(items)} texts are in doubt")
    return output.DONE


def suspected(model: ModelFolder) -> set[str]:
    """Return the record ids of the cleaned dataset's suspected label errors, if it was made."""
    try:
        _, manifest = store().head(model.name, "cleaned_dataset")
        entry = manifest.attachments["suspects"]
        rows = store().read_records(entry["kind"], entry["digest"])
    except (StoreError, KeyError):
        return set()
    return {str(row["record_id"]) for row in rows}


def read_texts(path: Path, column: str | None) -> list[str]:
    """Read unlabelled texts: a text file with one a line, or a column of a table.

    Raises:
        SourceError: naming file, row and remedy.
    """
    if path.suffix.lower() == ".txt" and path.is_file():
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    table = load_table(path)
    wanted = (column,) if column else _TEXT_COLUMNS
    found = next((name for name in wanted if name in table.columns), None)
    if found is None:
        raise SourceError(
            f"{path}: no column {' or '.join(map(repr, wanted))}; it has "
            f"{', '.join(table.columns)}: rename one, or name it in attributes.labels.columns.input"
        )
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
    return model
