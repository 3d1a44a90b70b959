"""What the watch over the replicas has found, for Prometheus; read when it is asked for."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.probe import Verdict
from serving.rotation import Rotation

_WHO = ("model", "version")
_REASONS = tuple(one for one in get_args(Verdict) if one != "well")


class RotationCollector(Collector):
    """Which replicas are in rotation, and how many this gateway took out of it, by reason."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation

    def collect(self) -> Iterator[Metric]:
        """Copy what is known at this moment."""
        rotated = GaugeMetricFamily(
            "ftdm_replica_in_rotation",
            "1 where requests may go to the replica.",
            labels=(*_WHO, "replica"),
        )
        now = self._rotation.rotated()
        for who, yes in now.items():
            rotated.add_metric(who, float(yes))
        taken = CounterMetricFamily(
            "ftdm_replicas_taken_out",
            "Times that a replica was taken out of rotation: dead, slow, wrong or garbage.",
            labels=(*_WHO, "reason"),
        )
        # From 0 on, so that the first time is an increase, too.
        none = {(*who[:2], reason): 0 for who in now for reason in _REASONS}
        for labels, number in {**none, **self._rotation.taken_out}.items():
            taken.add_metric(labels, number)
        yield rotated
        yield taken
