"""Shows the metrics to Prometheus, on a port of its own, with what production is.

A port, not a path of the gateway: a proxy that opens the gateway to callers never opens this, no
key is needed or checked, and a scrape, which asks every router how it is, runs in threads of its
own, so that no call waits for it. Pointer and replicas are read when they are asked for.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from prometheus_client import ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.canary_metrics import CanaryCollector
from serving.engine import HOST
from serving.health import answering
from serving.metrics import Metrics
from serving.pointer import PointerStore
from serving.rotation import Rotation
from serving.versions import Pointer, Version

_ASKED_AT_ONCE = 8


class ExpositionError(Exception):
    """The metrics cannot be shown; the message says what to do."""


class ProductionCollector(Collector):
    """What the pointers name, and how many replicas of each version should and do answer."""

    def __init__(self, home: Path, rotation: Rotation | None) -> None:
        self._home, self._rotation = home, rotation

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the families without values: nobody is asked before the first scrape."""
        return _families((), ())

    def collect(self) -> list[GaugeMetricFamily]:
        """Read the pointers; of what no watch knows ask the replicas, all at once."""
        with PointerStore(self._home) as store:
            pointers = store.pointers()
            named = {name for one in pointers for name in (one.current, one.previous)}
            versions = [
                one for one in store.versions() if one.state == "ready" or one.version in named
            ]
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            healthy = list(zip(versions, pool.map(self._well, versions), strict=True))
        return _families(pointers, healthy)

    def _well(self, version: Version) -> int:
        known = self._rotation.well(version) if self._rotation else None
        return answering(version) if known is None else known


@contextmanager
def exposed(
    metrics: Metrics,
    home: Path,
    port: int | None,
    host: str = HOST,
    rotation: Rotation | None = None,
) -> Iterator[None]:
    """Answer scrapes on `port` (None: nowhere) as long as the context lasts.

    Raises:
        ExpositionError: The port is taken.
    """
    if port is None:
        yield
        return
    ProcessCollector(registry=metrics.registry)
    metrics.registry.register(ProductionCollector(home, rotation))
    metrics.registry.register(CanaryCollector(home))
    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise ExpositionError(
            f"Port {port}, which the metrics need, cannot be had ({error}): set FTDM_METRICS_PORT "
            "to a free port."
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _families(
    pointers: list[Pointer] | tuple[()], healthy: Sequence[tuple[Version, int]]
) -> list[GaugeMetricFamily]:
    who = ("model", "version")
    pointer = GaugeMetricFamily(
        "ftdm_pointer", "1 for what production serves and what it kept.", labels=(*who, "role")
    )
    moved = GaugeMetricFamily(
        "ftdm_pointer_moved_time_seconds", "When production moved to what it serves.", labels=who
    )
    for one in pointers:
        pointer.add_metric((one.model, one.current, "current"), 1)
        moved.add_metric((one.model, one.current), datetime.fromisoformat(one.moved_at).timestamp())
        if one.previous:
            pointer.add_metric((one.model, one.previous, "previous"), 1)
    wanted = GaugeMetricFamily("ftdm_replicas", "Replicas that should answer.", labels=who)
    found = GaugeMetricFamily("ftdm_replicas_healthy", "Replicas that answer.", labels=who)
    for version, number in healthy:
        wanted.add_metric((version.model, version.version), len(version.replicas))
        found.add_metric((version.model, version.version), number)
    return [pointer, moved, wanted, found]
