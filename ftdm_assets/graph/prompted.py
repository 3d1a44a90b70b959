"""The prompted baseline: the base model through the production engine, or an endpoint's model.

The general questions are the base model's in both cases: fine-tuning is held against it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ftdm_assets.baseline_settings import EndpointSettings
from ftdm_assets.chat import base_format
from ftdm_assets.graph import prediction
from ftdm_assets.graph.endpoint_baseline import ask_endpoint, highest_class, settings_for
from ftdm_assets.graph.plan import Reading, Tools
from ftdm_assets.graph.prompt_questions import Questions, questions_of
from ftdm_assets.graph.shots import Record
from golden.client import AskSettings
from golden.general import GeneralScores
from golden.pace import Pace
from golden.tasks import Scores

_NAME = "baseline"
_FREE = {True: "no: a text is free", False: "no: attributes.baseline.constrain is off"}
_CONTEXT = 4096
RenderQuestion = Callable[[str, str], str]


class _Base(TypedDict):
    """The base model as the engine serves it to be asked."""

    folder: Path
    name: str
    max_model_len: int


@dataclass(frozen=True)
class Prompted:
    """What the prompted baseline scored.

    Attributes:
        facts: how it was asked, for manifest and UI.
        document: what of that is stored with the scores.
    """

    task: Scores
    general: GeneralScores
    pace: Pace
    facts: Mapping[str, Any]
    document: Mapping[str, Any]


def ask_prompted(
    reading: Reading, tools: Tools, records: Sequence[Record], render: RenderQuestion
) -> Prompted:
    """Ask the golden set, or a sample of it, and the general questions.

    Raises:
        ValueError: one sentence, if an answer is missing or an endpoint may not be sent the data.
    """
    endpoint = reading.model.settings.baseline.endpoint
    if endpoint is None:
        return _base_model(reading, tools, questions_of(reading, records), render)
    highest = highest_class(reading.model, endpoint, records)
    return _endpoint(reading, tools, questions_of(reading, records), render, endpoint, highest)


def _base_model(
    reading: Reading, tools: Tools, questions: Questions, render: RenderQuestion
) -> Prompted:
    settings = reading.model.settings
    constrain = settings.baseline.constrain == "auto"
    form = questions.form("structured_outputs" if constrain else "nothing")
    scored = prediction.predict(
        reading,
        tools,
        **_base(reading),
        asking=AskSettings(
            model=_NAME,
            base_url="",
            systems=questions.systems(form),
            max_tokens=questions.max_tokens,
            body=form.body,
        ),
        render_question=render,
        examples=questions.examples,
        read=form.read,
    )
    facts = {
        "answered_by": f"the base model {settings.base_model.name}",
        "constrained": "yes" if form.body else _FREE[constrain],
        **questions.facts(),
    }
    document = questions.document(form)
    return Prompted(scored.task, scored.general, scored.pace, facts, document)


def _endpoint(
    reading: Reading,
    tools: Tools,
    questions: Questions,
    render: RenderQuestion,
    endpoint: EndpointSettings,
    highest: str,
) -> Prompted:
    asking = settings_for(endpoint, questions)
    general = prediction.general_scores(reading, tools, **_base(reading), render_question=render)
    count = len(questions.examples)
    tools.say(f"Asking {endpoint.model} at {endpoint.url} {count} golden examples")
    asked = ask_endpoint(endpoint, asking, questions, tools)
    facts = {
        "answered_by": f"{endpoint.model} at {endpoint.url}",
        "constrained": asked.constrained,
        "sent": f"{count} golden inputs and their shots, up to data class {highest}",
        "cut_off": len(asked.answers.cut_off),
        **questions.facts(),
    }
    document = {
        **questions.document(asked.form),
        "endpoint": endpoint.model_dump(mode="json", include={"url", "model"}),
    }
    return Prompted(asked.scores(questions), general, asked.pace(endpoint), facts, document)


def _base(reading: Reading) -> _Base:
    folder = reading.artifact("base_model").path
    context = reading.model.settings.base_model.context_length or base_format(folder).context_length
    return {"folder": folder, "name": _NAME, "max_model_len": min(context, _CONTEXT)}
