"""What is made of whatever may answer at a replica's address."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.health import answers_chat, free_port, serves
from serving.probe import Probe

NAME = "support_tickets@v0001-0123456789ab"
LISTED = {"data": [{"id": NAME}]}
COMPLETED = {"model": NAME, "choices": [{"text": "a"}]}
TIMEOUT_S = 0.5


def http(content: object, status: int = 200) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


@contextmanager
def says(answer: bytes | None) -> Iterator[str]:
    """Answer whatever comes with these bytes; None is silence."""

    def talk() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            links.append(link)
            link.recv(65536)
            if answer is not None:
                link.sendall(answer)
                link.shutdown(socket.SHUT_WR)

    links: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for link in links:
            link.close()


def asked(what: str, url: str) -> str | None:
    async def ask() -> str | None:
        probe = Probe(TIMEOUT_S)
        try:
            verdict: str | None = await getattr(probe, what)(url, NAME)
        finally:
            await probe.close()
        return verdict

    return asyncio.run(ask())


IDENTITIES = {
    "itself": (http(LISTED), "well"),
    "another version": (http({"data": [{"id": "support_tickets@v0002-0123456789ab"}]}), "wrong"),
    "two versions": (http({"data": [{"id": NAME}, {"id": "other"}]}), "wrong"),
    "nobody": (http({"data": []}), "wrong"),
    "an odd list": (http({"data": [NAME, None]}), "wrong"),
    "a page": (http(b"<html>welcome</html>"), "wrong"),
    "a deep list": (http(b"[" * 100_000), "wrong"),
    "no such path": (http({}, 404), "wrong"),
    "a failure": (http({}, 500), "dead"),
    "no HTTP": (b"\x00\x01\x02 hello\r\n\r\n", "wrong"),
    "too much": (http(json.dumps(LISTED).encode() + b" " * 300_000), "wrong"),
    "half an answer": (http(LISTED)[:-5], "dead"),
    "nothing": (b"", "dead"),
    "silence": (None, "slow"),
}


@pytest.mark.parametrize("said", IDENTITIES)
def test_identity(said: str) -> None:
    answer, verdict = IDENTITIES[said]
    with says(answer) as url:
        assert asked("identity", url) == verdict


def test_an_address_where_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert asked("identity", url) == "dead"
    assert not serves(url, NAME)


# How much is read of an answer is the probe's own limit.
@pytest.mark.parametrize("said", [one for one in IDENTITIES if one != "too much"])
def test_whoever_asks_goes_by_the_same_rule(said: str) -> None:
    answer, verdict = IDENTITIES[said]
    with says(answer) as url:
        assert serves(url, NAME) == (verdict == "well")


COMPLETIONS = {
    "right": (http(COMPLETED), "well"),
    "of other weights": (http(COMPLETED | {"model": "other"}), "garbage"),
    "without a choice": (http(COMPLETED | {"choices": []}), "garbage"),
    "a list": (http([COMPLETED]), "garbage"),
    "a page": (http(b"<html>welcome</html>"), "garbage"),
    "an unknown model": (http({"error": {}}, 404), "garbage"),
    "no HTTP": (b"hello\r\n\r\n", "garbage"),
    "full": (http({}, 429), "slow"),
    "broken": (http({}, 500), "slow"),
    "nothing": (b"", "dead"),
}


@pytest.mark.parametrize("said", COMPLETIONS)
def test_completion(said: str) -> None:
    answer, verdict = COMPLETIONS[said]
    with says(answer) as url:
        assert asked("completion", url) == verdict
        assert answers_chat(url, NAME) == (verdict == "well")
