"""The baselines that fine-tuning has to beat: a good prompt, and a linear probe."""

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from golden.examples import Example
from golden.metrics import ClassificationScores, score_classification

_SHOTS = 4
_SHOT_CHARACTERS = 200


def few_shot_prompt(
    instruction: str, taxonomy: Mapping[str, str], records: Sequence[Mapping[str, Any]]
) -> str:
    """Return the system message: the instruction, the taxonomy, and examples of training data.

    The examples are short records of as many different labels as there are shots, chosen by
    digest, so that the same dataset always gives the same prompt.
    """
    lines = [instruction, "Answer with the category's name only.", "", "Categories:"]
    lines += [f"- {label}: {text}" if text else f"- {label}" for label, text in taxonomy.items()]
    return "\n".join([*lines, "", "Examples:", *_shots(records, "Category")]).rstrip()


def few_shot_json_prompt(
    instruction: str, schema: str, records: Sequence[Mapping[str, Any]]
) -> str:
    """Return the system message of an extraction: instruction, JSON schema, training examples."""
    lines = [instruction, "Answer with JSON only, by this JSON schema:", schema, "", "Examples:"]
    return "\n".join([*lines, *_shots(records, "JSON")]).rstrip()


def few_shot_text_prompt(
    instruction: str, style: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> str:
    """Return the system message of a generation: instruction, house style, training examples."""
    told = {
        "required_phrases": "Say: {}",
        "forbidden_phrases": "Never say: {}",
        "minimum_words": "Write at least {} words.",
        "maximum_words": "Write at most {} words.",
    }
    lines = [instruction, "Answer with the text alone."]
    for name, text in told.items():
        if value := style.get(name):
            lines.append(text.format("; ".join(value) if isinstance(value, list) else value))
    return "\n".join([*lines, "", "Examples:", *_shots(records, "Answer")]).rstrip()


def _shots(records: Sequence[Mapping[str, Any]], answer: str) -> list[str]:
    lines: list[str] = []
    shown: set[str] = set()
    for record in sorted(records, key=lambda row: str(row["digest"])):
        if len(shown) == _SHOTS:
            break
        if record["output"] not in shown and len(record["input"]) <= _SHOT_CHARACTERS:
            shown.add(record["output"])
            lines += [f"Text: {record['input']}", f"{answer}: {record['output']}", ""]
    return lines


def probe_scores(
    records: Sequence[Mapping[str, Any]], examples: Sequence[Example], labels: Sequence[str]
) -> ClassificationScores:
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
    return score_classification(examples, predictions, labels)
