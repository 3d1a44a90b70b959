"""The component: one ``defs.yaml`` becomes one graph."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.settings import DomainModelSettings


class DomainModel(dg.Component):
    """A fine-tuned domain model: labels to a served version, with gates on the way.

    One ``defs.yaml`` gives task, labels, golden set, base model, training, gates, registry, serving
    and canary; the component makes the asset graph under the model's key prefix.
    """

    def __init__(self, model: ModelFolder) -> None:
        self.model = model

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the schema of the ``attributes``."""
        return DomainModelSettings

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> "DomainModel":
        """Load the component from its attributes, in the folder of its ``defs.yaml``."""
        return cls(ModelFolder(attributes, Path(context.path)))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the graph."""
        from ftdm_assets.graph.build import build_definitions

        return build_definitions(self.model)
