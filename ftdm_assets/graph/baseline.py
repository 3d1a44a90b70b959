"""The baselines that fine-tuning has to beat: a good prompt, and a linear probe."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from ftdm_assets import answer_form
from golden.examples import Example
from golden.json_values import parse_json
from golden.metrics import ClassificationScores, score_classification
from serving.answer_form import fields_of

# Who holds an answer to its form: our engine, an OpenAI-compatible endpoint, or nobody.
HeldBy = Literal["structured_outputs", "response_format", "nothing"]

_CATEGORY = "category"
_MARKS = " \t\n`\"'*."
_TIMED = 200


@dataclass(frozen=True)
class AnswerForm:
    """How a prompted model is told to answer, is held to it, and is read.

    Attributes:
        told: the lines below the instruction.
        word: what a shot's answer begins with.
        shown: an output as a shot shows it.
        read: an answer's text to the output that it means; what means none stays as it is.
        body: the fields of a request that hold the answer to its form.
    """

    told: tuple[str, ...]
    word: str
    shown: Callable[[str], str]
    read: Callable[[str], str]
    body: Mapping[str, Any]

    def prompt(self, instruction: str, shots: Sequence[Mapping[str, Any]]) -> str:
        """Return the system message: instruction, what may be answered, and the shots."""
        lines = [instruction, *self.told]
        lines += ["", "Examples:"] if shots else []
        for shot in shots:
            lines += [f"Text: {shot['input']}", f"{self.word}: {self.shown(shot['output'])}", ""]
        return "\n".join(lines).rstrip()


def label_form(taxonomy: Mapping[str, str], held: HeldBy) -> AnswerForm:
    """Return the form of answers that are a label."""
    labels = list(taxonomy)
    as_json = held == "response_format"
    name = json.dumps({_CATEGORY: "NAME"})
    demand = f"Answer with JSON: {name}." if as_json else "Answer with the category's name only."
    named = [f"- {label}: {text}" if text else f"- {label}" for label, text in taxonomy.items()]
    return AnswerForm(
        told=(demand, "", "Categories:", *named),
        word="JSON" if as_json else "Category",
        shown=lambda label: (
            json.dumps({_CATEGORY: label}, ensure_ascii=False) if as_json else label
        ),
        read=lambda text: _label_in(text, labels),
        body=_held(held, answer_form.label_form(labels), _category_schema(labels)),
    )


def json_form(schema_text: str, schema: Mapping[str, Any], held: HeldBy) -> AnswerForm:
    """Return the form of answers that are JSON by a schema."""
    return AnswerForm(
        told=("Answer with JSON only, by this JSON schema:", schema_text),
        word="JSON",
        shown=lambda output: output,
        read=_without_fence,
        body=_held(held, answer_form.json_form(schema), schema),
    )


_STYLE = {
    "required_phrases": "Say: {}",
    "forbidden_phrases": "Never say: {}",
    "minimum_words": "Write at least {} words.",
    "maximum_words": "Write at most {} words.",
}


def text_form(style: Mapping[str, Any]) -> AnswerForm:
    """Return the form of answers that are texts in a house style: told, held by nobody."""
    lines = [
        line.format("; ".join(value) if isinstance(value, list) else value)
        for name, line in _STYLE.items()
        if (value := style.get(name))
    ]
    return AnswerForm(
        told=("Answer with the text alone.", *lines),
        word="Answer",
        shown=lambda output: output,
        read=str,
        body={},
    )


def _held(held: HeldBy, ours: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    if held == "structured_outputs":
        return fields_of(ours)
    if held == "response_format":
        named = {"name": "answer", "strict": True, "schema": dict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {}


def _category_schema(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {_CATEGORY: {"type": "string", "enum": list(labels)}},
        "required": [_CATEGORY],
        "additionalProperties": False,
    }


def _label_in(text: str, labels: Sequence[str]) -> str:
    said = text.strip()
    bare = _without_fence(said)
    meant = (said, _category_in(bare), bare.removeprefix("Category:").strip(_MARKS))
    return next((label for label in meant if label in labels), text)


def _category_in(text: str) -> str:
    try:
        value = parse_json(text)
    except ValueError:
        return ""
    return str(value.get(_CATEGORY, "")).strip() if isinstance(value, dict) else ""


def _without_fence(text: str) -> str:
    """Return what stands in a fence of Markdown, in which chat models like to put JSON."""
    said = text.strip()
    if not (said.startswith("```") and said.endswith("```") and "\n" in said):
        return text
    return said.split("\n", 1)[1].removesuffix("```").strip()


@dataclass(frozen=True)
class Probe:
    """A linear probe's scores, and the seconds that single answers took."""

    scores: ClassificationScores
    seconds: tuple[float, ...]


def probe_scores(
    records: Sequence[Mapping[str, Any]], examples: Sequence[Example], labels: Sequence[str]
) -> Probe:
    """Train a linear probe on the cleaned dataset and score it on the golden set.

    TF-IDF over words and character n-grams with logistic regression: seconds, no GPU.
    """
    probe = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        ),
        LogisticRegression(C=10, max_iter=1000),
    )
    probe.fit([row["input"] for row in records], [row["output"] for row in records])
    answers = probe.predict([example.input for example in examples])
    predictions: dict[str, str | None] = {
        example.example_id: str(answer) for example, answer in zip(examples, answers, strict=True)
    }
    seconds = tuple(_seconds(probe, example.input) for example in examples[:_TIMED])
    return Probe(score_classification(examples, predictions, labels), seconds)


def _seconds(probe: Any, text: str) -> float:
    started = time.perf_counter()
    probe.predict([text])
    return time.perf_counter() - started
