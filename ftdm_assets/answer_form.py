"""What answers are held to: one of the labels, or JSON by the schema in its canonical form.

Invariants:
* One definition, made from what the scores' manifest records: the prompted baseline, evaluation,
  reproduction and (through the registered version) production are held to the same.
* The engine writes an object's keys in the order of its schema. Models are trained on canonical
  texts, whose keys are sorted, so the schema's are sorted here; nothing else of it changes.
* Whether a text can be written is asked of the library, and with the options, that the engine uses
  (`serving.engine`): both environments pin one version of it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from golden.json_values import canonical_text


def label_form(labels: Iterable[str]) -> dict[str, Any]:
    """Return the form of answers that are one of the labels."""
    return {"choice": list(labels)}


def json_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of answers that are JSON by a schema."""
    return {"json": json.loads(canonical_text(schema))}


def form_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form that a configuration describes, now or as a manifest recorded it.

    It is empty where answers are free: texts, and scores of before there was a form.
    """
    if not config.get("constrained"):
        return {}
    if "schema" in config:
        return json_form(config["schema"])
    abstain = config.get("abstain_label")
    return label_form(dict.fromkeys([*config["labels"], *([abstain] if abstain else [])]))


def problem_of(form: Mapping[str, Any]) -> str:
    """Return why the engine cannot hold answers to a form; blank when it can."""
    return str(_matcher(form).get_error())


def unwritable(form: Mapping[str, Any], texts: Sequence[str]) -> list[str]:
    """Return the texts that the engine, held to a form that it can keep, could not write."""
    start = _matcher(form)
    return [text for text in texts if not _writes(start.deep_copy(), text.encode())]


def _writes(matcher: Any, text: bytes) -> bool:
    return matcher.try_consume_tokens(list(text)) == len(text) and bool(matcher.is_accepting())


def _matcher(form: Mapping[str, Any]) -> Any:
    # Imported when it is asked: what serves, and what only trains, does without it.
    import llguidance

    kind, value = next(iter(form.items()))
    if kind == "choice":
        grammar = llguidance.grammar_from("choice", json.dumps(value))
    else:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(value), defaults={"whitespace_flexible": False}
        )
    # A token a byte: whether a text can be written does not depend on how it is cut.
    return llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0)
