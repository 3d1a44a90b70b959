"""A taxonomy: the labels that may be answered, with a description each."""

from typing import Any


def taxonomy_of(document: Any) -> dict[str, str] | None:
    """Return label to description from ``label: description`` or a list; None if it is neither."""
    if isinstance(document, list):
        return {str(label): "" for label in document}
    if isinstance(document, dict) and document:
        return {str(label): str(text or "") for label, text in document.items()}
    return None
