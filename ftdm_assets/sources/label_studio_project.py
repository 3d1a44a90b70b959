"""Fills a Label Studio project: the labelling interface, texts to label, texts to review.

A review is a task of the same project, marked in its ``meta``: so that labels and reviews
are always read in one state. Both commands send only what is not there yet; running twice doubles
nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.consensus import ReviewItem
from ftdm_assets.records.contract import REVIEW
from ftdm_assets.records.normalise import duplicate_key
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.label_studio import (
    LABEL_FIELD,
    ROLE_FIELD,
    TEXT_FIELD,
    LabelStudioSource,
)
from ftdm_assets.sources.label_webhook import SECRET_HEADER, secret

_BATCH = 500


def labelling_config(model: ModelFolder) -> str:
    """Return the labelling interface: the text, and one choice a label with its description."""
    field = model.settings.labels.columns.input or TEXT_FIELD
    choices = "\n".join(
        f"    <Choice value={quoteattr(label)}"
        + (f" hint={quoteattr(text)}" if text else "")
        + "/>"
        for label, text in model.taxonomy().items()
    )
    return (
        "<View>\n"
        f'  <Text name="text" value={quoteattr("$" + field)}/>\n'
        f'  <Choices name="{LABEL_FIELD}" toName="text" choice="single" required="true" '
        'showInline="true">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    )


def ensure_project(model: ModelFolder) -> tuple[int, bool]:
    """Return the project's id, and whether it was made now.

    Raises:
        SettingsError: if the settings name an id: only the server gives ids.
        SourceError: if the server refuses or cannot be reached.
    """
    title = model.settings.labels.label_studio.project
    with LabelStudioSource(model).client() as client:
        if isinstance(title, int):
            client.project(title)
            return title, False
        if client.projects(title):
            return client.project_id(), False
        if not title.strip():
            raise SettingsError("attributes.labels.label_studio.project: give it a title")
        instruction = model.settings.task.instruction
        return client.create_project(title, labelling_config(model), instruction), True


def ensure_webhook(model: ModelFolder, project: int) -> bool:
    """Let the project tell the receiver of its changes, if the settings name one.

    Returns whether it was registered now.

    Raises:
        SettingsError: if the secret is not set.
        SourceError: if the server refuses or cannot be reached.
    """
    address = model.settings.labels.label_studio.webhook
    if not address:
        return False
    headers = {SECRET_HEADER: secret()}
    with LabelStudioSource(model).client() as client:
        return client.add_webhook(
            project, f"{address.rstrip('/')}/label-studio/{model.name}", headers
        )


def send_texts(model: ModelFolder, texts: Sequence[str]) -> int:
    """Add the texts that the project does not hold yet; return how many."""
    source = LabelStudioSource(model)
    field = model.settings.labels.columns.input or TEXT_FIELD
    there = {duplicate_key(str(task["data"].get(field, ""))) for task in source.tasks()}
    new = {duplicate_key(text): text for text in reversed(texts) if text.strip()}
    tasks = [{"data": {field: text}} for key, text in reversed(new.items()) if key not in there]
    _send(source, tasks)
    return len(tasks)


def send_reviews(model: ModelFolder, items: Sequence[ReviewItem], limit: int) -> list[ReviewItem]:
    """Add review tasks for the first items that have no open one; return what was sent."""
    source = LabelStudioSource(model)
    field = model.settings.labels.columns.input or TEXT_FIELD
    waiting = {
        duplicate_key(str(task["data"].get(field, "")))
        for task in source.tasks()
        if (task.get("meta") or {}).get(ROLE_FIELD) == REVIEW and not task.get("annotations")
    }
    chosen = [item for item in items if duplicate_key(item.input) not in waiting][:limit]
    _send(source, [_review_task(field, item) for item in chosen])
    return chosen


def _review_task(field: str, item: ReviewItem) -> dict[str, Any]:
    votes = dict(sorted(Counter(ballot.label for ballot in item.votes).items()))
    meta = {ROLE_FIELD: REVIEW, "ftdm_reason": item.why, "ftdm_votes": votes}
    return {"data": {field: item.input}, "meta": meta}


def _send(source: LabelStudioSource, tasks: Sequence[dict[str, Any]]) -> None:
    with source.client() as client:
        project = client.project_id()
        for start in range(0, len(tasks), _BATCH):
            client.import_tasks(project, tasks[start : start + _BATCH])
