"""What the watch over the replicas has found, for Prometheus; read when it is asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.rotation import Rotation

_WHO = ("model", "version")


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
        for who, yes in self._rotation.rotated().items():
            rotated.add_metric(who, float(yes))
        taken = CounterMetricFamily(
            "ftdm_replicas_taken_out",
            "Times that a replica was taken out of rotation: dead, slow, wrong or garbage.",
            labels=(*_WHO, "reason"),
        )
        for labels, number in list(self._rotation.taken_out.items()):
            taken.add_metric(labels, number)
        yield rotated
        yield taken
