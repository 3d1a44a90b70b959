"""What watches the gateway's calls: metrics always, spans where somebody collects them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from starlette.middleware import Middleware

from serving.cache_gauge import CacheCollector
from serving.engine import HOST
from serving.exposition import exposed
from serving.measured import Measured
from serving.metrics import Metrics
from serving.otlp import traces_endpoint
from serving.rotation import Rotation
from serving.rotation_metrics import RotationCollector


@contextmanager
def observed(
    home: Path,
    metrics_port: int | None,
    cache_url: str | None = None,
    rotation: Rotation | None = None,
    host: str = HOST,
) -> Iterator[list[Middleware]]:
    """Return the middleware that watches, outermost first, as long as the context lasts.

    Args:
        home: The home folder whose pointer the metrics show.
        metrics_port: Where Prometheus asks; None: nowhere.
        cache_url: The store of the result cache, whose health the metrics show.
        rotation: The watch over the replicas, where one runs.
        host: The address of that port.

    Raises:
        ExpositionError: The port is taken.
    """
    metrics = Metrics()
    if cache_url:
        metrics.registry.register(CacheCollector(cache_url))
    if rotation:
        metrics.registry.register(RotationCollector(rotation))
    around = [Middleware(Measured, metrics=metrics)]
    with ExitStack() as running:
        running.enter_context(exposed(metrics, home, metrics_port, host, rotation))
        if endpoint := traces_endpoint():
            # Costs a tenth of a second of start, so not without need.
            from serving.traced import Traced, spans_to

            around.append(Middleware(Traced, provider=running.enter_context(spans_to(endpoint))))
        yield around
