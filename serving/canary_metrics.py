"""What the newest canary found of each model in production, for Prometheus.

Read from the manifests and verdicts that the home keeps: no Dagster is asked. A gateway that has no
store, or one in which a statement was changed, shows no canary; its time then tells that.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ftdm_assets.provenance.lineage import CANARY, CANARY_CHECK
from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.provenance.store import ArtifactStore, store_folder
from serving.pointer import PointerStore

_log = logging.getLogger("serving.canary")


@dataclass(frozen=True)
class Canary:
    """One canary, judged or not yet.

    Attributes:
        version: Which it has scored.
        accuracy: The share of right answers (0-1).
        at: When it was made: seconds since 1970.
        passed: Whether accuracy has fallen by less than the model's settings allow; None: not
            judged.
        drop_points: How far it has fallen since the deployment, in percentage points; None: not
            judged, or another version has answered.
    """

    version: str
    accuracy: float
    at: float
    passed: bool | None = None
    drop_points: float | None = None


class CanaryCollector(Collector):
    """Reads the newest canary of each model whose pointer a home has, at each scrape."""

    def __init__(self, home: Path) -> None:
        self._home, self._store = home, ArtifactStore(store_folder(home))
        # By model: the manifests that are there, and the newest of them.
        self._known: dict[str, tuple[frozenset[str], Manifest | None]] = {}

    def collect(self) -> list[GaugeMetricFamily]:
        """Read pointers, and what is new in the store."""
        who = ("model", "version")
        at, accuracy, drop, passed = (
            GaugeMetricFamily(f"ftdm_canary_{name}", text, labels=who)
            for name, text in (
                ("time_seconds", "When the newest canary was made."),
                ("accuracy", "The share of right answers (0-1) of the newest canary."),
                ("drop_points", "How far accuracy has fallen since the deployment, in points."),
                ("passed", "1 where it has fallen by less than the model allows."),
            )
        )
        for model, canary in self._newest():
            labels = (model, canary.version)
            at.add_metric(labels, canary.at)
            accuracy.add_metric(labels, canary.accuracy)
            if canary.drop_points is not None:
                drop.add_metric(labels, canary.drop_points)
            if canary.passed is not None:
                passed.add_metric(labels, float(canary.passed))
        return [at, accuracy, drop, passed]

    def _newest(self) -> Iterator[tuple[str, Canary]]:
        with PointerStore(self._home) as pointers:
            models = [one.model for one in pointers.pointers()]
        for model in models:
            try:
                if canary := self._canary(model):
                    yield model, canary
            except (ValueError, KeyError, TypeError, OSError) as error:
                _log.warning("The canary of %s cannot be read: %r; `ftdm verify`", model, error)

    def _canary(self, model: str) -> Canary | None:
        made = self._manifest(model)
        if made is None:
            return None
        facts, at = made.facts, datetime.fromisoformat(made.run["finished_at"]).timestamp()
        scored = str(facts["version"]), float(facts["accuracy"]), at
        judged = [
            one
            for one in self._store.verdicts(model, CANARY, made.digest)
            if one.check == CANARY_CHECK
        ]
        if not judged:
            return Canary(*scored)
        points = judged[-1].measured.get("drop_points")
        return Canary(*scored, judged[-1].passed, None if points is None else float(points))

    def _manifest(self, model: str) -> Manifest | None:
        """Return the newest manifest; all are read only if there is another than before."""
        # Not the store's head: a gateway in a cluster is given manifests and verdicts alone.
        folder = self._store.root / "manifests" / model / CANARY
        there = frozenset(path.name for path in folder.glob("*.json"))
        if model not in self._known or self._known[model][0] != there:
            found = self._store.manifests(model, CANARY)
            self._known[model] = there, found[-1] if found else None
        return self._known[model][1]
