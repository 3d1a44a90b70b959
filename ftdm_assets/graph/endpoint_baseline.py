"""The prompted baseline of an endpoint: a general model elsewhere is asked the golden set.

Invariants:
* Nothing is sent unless the data class of all that could be sent is allowed there.
* The key comes from the environment and stands in no message, manifest or log.
* An endpoint that refuses to hold answers to a form is asked once more without, and that is told.
* An answer that is missing, or was cut off before it began, ends the whole: it is no wrong answer.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftdm_assets.baseline_settings import EndpointSettings
from ftdm_assets.graph import prediction
from ftdm_assets.graph.baseline import AnswerForm, HeldBy
from ftdm_assets.graph.plan import Tools
from ftdm_assets.graph.prompt_questions import Questions
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.data_classes import DATA_CLASSES, classes_up_to
from golden.client import Answers, AskSettings, EndpointError, ask_blocking
from golden.pace import Pace, pace_of
from golden.tasks import Scores

SETTING = "attributes.baseline.endpoint"
_REFUSED = {400, 404, 422, 501}


@dataclass(frozen=True)
class Asked:
    """Answers of an endpoint, the form that they were told, and how they were held to it."""

    answers: Answers
    form: AnswerForm
    constrained: str

    def scores(self, questions: Questions) -> Scores:
        """Return the scores of what the answers mean."""
        told = self.answers.predictions.items()
        read = {f"golden:{key}": self.form.read(text or "") for key, text in told}
        return prediction.task_scores(questions.examples, read, questions.model.task_kind())

    def pace(self, endpoint: EndpointSettings) -> Pace:
        """Return how fast the answers came, repeats and waiting included."""
        seconds, usages = self.answers.latencies.values(), self.answers.usages.values()
        return pace_of(seconds, endpoint.concurrency, usages)


def highest_class(
    model: ModelFolder, endpoint: EndpointSettings, records: Iterable[Mapping[str, Any]]
) -> str:
    """Return the highest data class of what could be sent; golden inputs are as labels are.

    Raises:
        ValueError: if it is not allowed there.
    """
    found = {model.settings.labels.data_class, *(row["data_class"] for row in records)}
    highest: str = max(found, key=DATA_CLASSES.index)
    if highest not in classes_up_to(endpoint.allowed_data_class):
        raise ValueError(
            f"{SETTING}: labels and golden set are {highest}, and {endpoint.url} may be sent what "
            f"is at most {endpoint.allowed_data_class}; set {SETTING}.allowed_data_class: {highest}"
            " if its operator may read them, else leave the endpoint out"
        )
    return highest


def settings_for(endpoint: EndpointSettings, questions: Questions) -> AskSettings:
    """Return how the endpoint is asked, but for prompt and form.

    Raises:
        ValueError: if the environment holds what cannot be a key.
    """
    key = _key(endpoint)
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"{SETTING}: the environment variable {endpoint.key_env} holds a line break or a "
            "character that no key has; set it once more"
        )
    return AskSettings(
        model=endpoint.model,
        base_url=endpoint.url,
        api_key=key or None,
        concurrency=endpoint.concurrency,
        timeout_s=endpoint.timeout_s,
        retries=endpoint.retries,
        max_tokens=questions.max_tokens,
    )


def ask_endpoint(
    endpoint: EndpointSettings, asking: AskSettings, questions: Questions, tools: Tools
) -> Asked:
    """Ask with answers held to their form; without, where that is off or refused.

    Raises:
        ValueError: one sentence, if an example stays without an answer.
    """

    def held_by(held: HeldBy, told: str) -> Asked:
        form = questions.form(held)
        body = {**form.body, **endpoint.body}
        by_form = replace(asking, systems=questions.systems(form), body=body)
        say = prediction.progress(tools, len(questions.examples))
        return Asked(ask_blocking(questions.examples, by_form, progress=say), form, told)

    try:
        if questions.model.settings.baseline.constrain == "off":
            return _begun(held_by("nothing", "no: attributes.baseline.constrain is off"))
        return _begun(_held_if_possible(endpoint, held_by, tools))
    except EndpointError as error:
        raise ValueError(f"{SETTING}: {error}{_hint(endpoint, error.status)}") from None


def _held_if_possible(
    endpoint: EndpointSettings, held_by: Callable[[HeldBy, str], Asked], tools: Tools
) -> Asked:
    try:
        return held_by("response_format", "asked for by response_format")
    except EndpointError as error:
        if error.status not in _REFUSED:
            raise
        told = f"no: response_format was refused (HTTP {error.status})"
    tools.say(f"{endpoint.url}: {told}; asking once more without")
    return held_by("nothing", told)


def _begun(asked: Asked) -> Asked:
    """Refuse answers that were cut off before they began, as a model that thinks first may be."""
    answers = asked.answers
    blank = [key for key in answers.cut_off if not (answers.predictions[key] or "").strip()]
    if blank:
        raise ValueError(
            f"{SETTING}: {len(blank)} of {len(answers.predictions)} answers were cut off before "
            f"they began, the first to example {blank[0]}; give the model room to think with "
            f"{SETTING}.body: {{max_tokens: 2000}}"
        )
    return asked


def _key(endpoint: EndpointSettings) -> str:
    return os.environ.get(endpoint.key_env, "").strip()


def _hint(endpoint: EndpointSettings, status: int | None) -> str:
    if status in {401, 403}:
        state = "was sent" if _key(endpoint) else "is not set"
        return f"; the environment variable {endpoint.key_env} {state}"
    if status == 429:
        return f" ({SETTING}.concurrency, {SETTING}.retries)"
    if status in {400, 422}:
        return f", or change the fields of the request with {SETTING}.body"
    return f", or raise {SETTING}.timeout_s if it is slow" if status is None else ""
