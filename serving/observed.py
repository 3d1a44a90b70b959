"""What watches the gateway's calls: metrics always, spans where somebody collects them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from starlette.middleware import Middleware

from serving.engine import HOST
from serving.exposition import exposed
from serving.measured import Measured
from serving.metrics import Metrics
from serving.otlp import traces_endpoint


@contextmanager
def observed(home: Path, metrics_port: int | None, host: str = HOST) -> Iterator[list[Middleware]]:
    """Return the middleware that watches, outermost first, as long as the context lasts.

    Args:
        home: The home folder whose pointer the metrics show.
        metrics_port: Where Prometheus asks; None: nowhere.
        host: The address of that port.

    Raises:
        ExpositionError: The port is taken.
    """
    metrics = Metrics()
    around = [Middleware(Measured, metrics=metrics)]
    with ExitStack() as running:
        running.enter_context(exposed(metrics, home, metrics_port, host))
        if endpoint := traces_endpoint():
            # Costs a tenth of a second of start, so not without need.
            from serving.traced import Traced, spans_to

            around.append(Middleware(Traced, provider=running.enter_context(spans_to(endpoint))))
        yield around
