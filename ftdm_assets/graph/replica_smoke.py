"""The part of the smoke test that asks every replica itself, past the gateway.

Behind a gateway one replica may get all of ten questions, and a broken one none. Each is asked for
its version's own served name, which names the weights' digest: another version's replica refuses.
"""

from collections.abc import Sequence

from ftdm_assets.graph.plan import Reading
from golden.client import AskSettings, ask_blocking
from golden.examples import Example
from serving.answer_form import fields_of
from serving.pointer import PointerStore


def correct_of_each(reading: Reading, version: str, examples: Sequence[Example]) -> dict[str, int]:
    """Return how many of the examples each replica of a version answers right, by its name.

    Raises:
        EndpointError: one does not answer, or serves something else.
    """
    with PointerStore(reading.home) as store:
        known = store.version(reading.model.name, version)
    kind, found = reading.model.task_kind(), {}
    for replica in known.replicas:
        settings = AskSettings(
            model=known.served_name,
            base_url=f"{replica.url}/v1",
            max_tokens=reading.model.settings.task.max_new_tokens,
            concurrency=4,
            # What the gateway would add.
            body=fields_of(known.form),
        )
        answers = ask_blocking(examples, settings)
        found[replica.name] = kind.score(examples, answers.predictions).correct
    return found
