"""What ``workspace.yaml`` loads: every domain model's graph in one code location."""

import dagster as dg

from ftdm_assets.graph.build import build_definitions
from ftdm_assets.home import dagster_home
from ftdm_assets.model_folder import find_models, load_folder


def load_definitions() -> dg.Definitions:
    """Return the graphs of all domain models, and the pool's executor.

    Raises:
        SettingsError: naming file, key and remedy, if a ``defs.yaml`` is wrong.
    """
    graphs = [build_definitions(load_folder(path)) for path in find_models().values()]
    # Heavy work is out of process anyway; a process an op would only add seconds to each.
    return dg.Definitions.merge(*graphs, dg.Definitions(executor=dg.in_process_executor))


dagster_home()
defs = load_definitions()
