"""Two gateways on one Postgres under load: a promotion, Postgres restarted, and the log after."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from serving.health import free_port, serves
from serving.home import DATABASE_VARIABLE
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.request_log_check import check
from serving.shared_request_log import SharedRequestLog
from tests.serving.postgres_server import postgres_server
from tests.serving.serving_support import FAKE, MODEL, bearer, unasked
from tests.serving.test_gateway import CHAT, a_version, chat
from tests.serving.test_pointer import ROOT

# How long Postgres is away; a restart takes about as long.
AWAY_S = 2.0


@contextmanager
def running(*command: str) -> Iterator[None]:
    with subprocess.Popen([sys.executable, *command], cwd=ROOT) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


class Callers:
    """Threads that ask one gateway without a pause, each request under an id of its own."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(base_url=url, headers=bearer(key), timeout=60)
        self._stop = threading.Event()
        self.answered: list[str] = []
        self.failures: list[str] = []
        self.newest: dict[str, float] = {}
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> "Callers":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join(60)
        self._client.close()

    def _ask(self) -> None:
        while not self._stop.is_set():
            name = uuid.uuid4().hex
            try:
                answer = self._client.post(CHAT, json=chat(), headers={"x-request-id": name})
                if answer.status_code == 200:
                    self.answered.append(name)
                    version = answer.headers["x-ftdm-version"]
                    self.newest.setdefault(version, time.monotonic())
                else:
                    self.failures.append(f"{answer.status_code}: {answer.text}")
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
            time.sleep(0.01)


@pytest.mark.alone
def test_promotion_and_restarts_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server())
        shared = server.new_schema()
        monkeypatch.setenv(DATABASE_VARIABLE, shared)
        homes = [tmp_path / "one", tmp_path / "two"]
        replica = f"http://127.0.0.1:{(port := free_port())}"
        stack.enter_context(
            running(str(FAKE), "--port", str(port), "--served-model-name", "served")
        )
        with PointerStore(homes[0]) as store:
            store.record_version(a_version(replica, 1))
            store.record_version(a_version(replica, 2))
            store.promote(MODEL, "v0001", by="t", reason="r", admit=unasked)
        urls = []
        for home in homes:
            urls.append(f"http://127.0.0.1:{(port := free_port())}")
            command = ("-m", "serving.gateway", "--home", str(home), "--port", str(port))
            stack.enter_context(running(*command))
        while not (serves(replica, "served") and all(map(up, urls))):
            time.sleep(0.05)
        callers = [
            stack.enter_context(Callers(url, local_key(home)))
            for url, home in zip(urls, homes, strict=True)
        ]
        time.sleep(0.5)
        with PointerStore(homes[0]) as store:
            store.promote(MODEL, "v0002", by="t", reason="r", admit=unasked)
        moved = time.monotonic()
        new = f"{MODEL}-v0002"
        while not all(new in one.newest for one in callers):
            assert time.monotonic() - moved < 10
            time.sleep(0.01)
        took = max(one.newest[new] for one in callers) - moved
        # A restart as its administrator does it, then one after a crash.
        for how in (signal.SIGINT, signal.SIGQUIT):
            server.stop(how)
            before = [len(one.answered) for one in callers]
            time.sleep(AWAY_S)
            server.start()
            end = time.monotonic() + 30
            while any(
                len(one.answered) < count + 20 for one, count in zip(callers, before, strict=True)
            ):
                assert time.monotonic() < end
                time.sleep(0.05)
        for one in callers:
            one.__exit__()
        answered = [name for one in callers for name in one.answered]
        # Shown by `pytest -rP`.
        logging.getLogger("tests").warning(
            "%d answered; both gave the new version after %.0f ms", len(answered), took * 1e3
        )
        assert [one for some in callers for one in some.failures] == []
        for home in homes:
            assert check(SharedRequestLog(home, shared)).problems == []
        rows = SharedRequestLog(homes[0], shared).rows()
        written = Counter(json.loads(row.line)["content"]["request_id"] for row in rows)
        assert {written[name] for name in answered} == {1}
        assert len(written) == written.total() == len(answered)
