"""A reading in which nothing moves: one build or one check sees one state of the graph.

Invariants:
* An asset that was asked for once stays what it was, whatever other runs make current meanwhile:
  what the gate allowed is what is built from, and a verdict names the digest that was measured.
"""

from ftdm_assets.graph.plan import Reading
from ftdm_assets.provenance.statements import Manifest


class PinnedReading(Reading):
    """What a check or an asset reads, each asset as it was when first asked for."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.model, reading.home, reading.store)
        self._heads: dict[str, tuple[str, Manifest]] = {}

    def head(self, asset: str) -> tuple[str, Manifest]:
        """Return the manifest of an asset with the manifest's digest."""
        if asset not in self._heads:
            self._heads[asset] = super().head(asset)
        return self._heads[asset]
