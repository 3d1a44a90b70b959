"""Whether the store of the result cache answers, for the metrics.

It is asked anew at each scrape, by a connection of its own and in the scrape's thread: no call
waits for it. Without it requests go on (`serving.cache_store`), so this gauge is how one notices.
"""

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

_PATIENCE_S = 1.0


class CacheCollector(Collector):
    """1 while the store at an address answers, else 0."""

    def __init__(self, url: str) -> None:
        self._url = url

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the family without a value: nobody is asked before the first scrape."""
        return [_family()]

    def collect(self) -> list[GaugeMetricFamily]:
        """Ask the store."""
        family = _family()
        family.add_metric((), float(_answers(self._url)))
        return [family]


def _family() -> GaugeMetricFamily:
    return GaugeMetricFamily("ftdm_cache_up", "1 if the result cache answers.", labels=())


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(
            url,
            socket_timeout=_PATIENCE_S,
            socket_connect_timeout=_PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        ) as store:
            return store.ping() is True
    except (RedisError, OSError, ValueError):
        return False
