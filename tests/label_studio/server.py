"""A real Label Studio server for the tests, with people who label in it."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from serving.health import free_port

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / ".venv-label-studio" / "bin" / "label-studio"
TOKEN = "0123456789abcdef" * 2 + "01234567"
PASSWORD = "correct-horse-9"
START_TIMEOUT_S = 360


class Person:
    """Somebody who labels, with a session of their own."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def call(self, method: str, path: str, body: Any = None) -> Any:
        head = {"X-CSRFToken": self.client.cookies.get("csrftoken") or ""}
        answer = self.client.request(method, path, json=body, headers=head)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def label(self, task: int, label: str) -> int:
        """Label a task and return the annotation's id."""
        made = self.call("POST", f"/api/tasks/{task}/annotations/", {"result": chosen(label)})
        return int(made["id"])

    def edit(self, annotation: int, label: str) -> None:
        """Change an annotation, one's own or another's."""
        self.call("PATCH", f"/api/annotations/{annotation}/", {"result": chosen(label)})


def chosen(label: str) -> list[dict[str, Any]]:
    """Return an annotation's result as the labelling interface writes it."""
    value = {"choices": [label]}
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": value}]


class Server:
    """The running server: its address and its owner."""

    def __init__(self, url: str) -> None:
        self.url = url
        head = {"Authorization": f"Token {TOKEN}"}
        self.clients = [httpx.Client(base_url=url, headers=head, timeout=60)]
        self.owner = Person(self.clients[0])

    def join(self, email: str) -> Person:
        """Let a second person sign up by the owner's invitation."""
        link = str(self.owner.call("GET", "/api/invite")["invite_url"])
        person = httpx.Client(base_url=self.url, follow_redirects=True, timeout=60)
        self.clients.append(person)
        page = person.get(link)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": token.group(1)}
        person.post(link, data=form, headers={"Referer": self.url}).raise_for_status()
        return Person(person)

    def close(self) -> None:
        """Close every connection."""
        for client in self.clients:
            client.close()


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Start a server in a folder; it is stopped at the end."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "SSRF_PROTECTION_ENABLED": "false",
        # A test server tells nobody that it runs.
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_RATE": "0",
    }
    arguments = [
        str(COMMAND), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port),
        "--username", "owner@example.org", "--password", PASSWORD, "--user-token", TOKEN,
        "--enable-legacy-api-token",
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            arguments, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(process, url, folder / "server.log")
            with closing(Server(url)) as server:
                yield server
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {url}: {log.read_text()[-2000:]}")
