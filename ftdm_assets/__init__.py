"""Fine-tuned domain models as a Dagster asset graph."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftdm_assets.domain_model import DomainModel

__all__ = ["DomainModel"]


def __getattr__(name: str) -> Any:
    """Load the component when it is asked for: the command line starts without Dagster."""
    if name == "DomainModel":
        from ftdm_assets.domain_model import DomainModel

        return DomainModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
