"""``ftdm reproduce``: a version's training run again from its manifest, and compared.

Nothing of production or of the store's heads changes; the outcome is written as a statement bound
to the version's digest, which ``ftdm trace`` shows.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ftdm_assets import home as homes
from ftdm_assets.commands import output
from ftdm_assets.commands.alone import alone
from ftdm_assets.commands.trace import registered_version
from ftdm_assets.compute.process import StepProcess
from ftdm_assets.provenance.access_log import Reader


class CommandTools:
    """Steps as processes of this machine, their lines shown while they run."""

    run_id = ""
    decision = None

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, message: str) -> None:
        """Write a line."""
        if not self._quiet:
            output.say(message)

    def step(self, program: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a GPU step and wait for it."""
        step = StepProcess.prepared(program, config, homes.work())
        step.run({}, lambda line: self.say(f"  {line}"))
        return {}


def reproduce(version: str, scores: bool, as_json: bool) -> int:
    """Run the training again; return 1 if neither digests nor scores agree."""
    from ftdm_assets.graph import reproduction

    store = homes.store(Reader(f"reproduce {version}"))
    recorded = reproduction.recorded_version(store, registered_version(store, version))
    work = homes.work() / "reproduce" / version
    with alone(f"reproduce-{version}", f"ftdm reproduce {version}"):
        tools = CommandTools(quiet=as_json)
        found = reproduction.reproduce(store, work, tools, recorded, scores=scores)
        store.add_reproduction(found)
        shutil.rmtree(work)
    if as_json:
        output.print_json(asdict(found))
    elif found.outcome == "not_reproduced":
        output.fail(f"{version}: {found.reason}")
    else:
        output.say(f"{version}: {found.reason} ({found.seconds:.0f} s)")
    return output.NO if found.outcome == "not_reproduced" else output.DONE
