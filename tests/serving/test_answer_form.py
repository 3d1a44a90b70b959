"""Answers are held to the form of their version, unless the caller says otherwise."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from serving.answer_form import fields_of, form_for, held_to, is_free
from serving.call import Call
from serving.errors import ApiError
from serving.pointer import PointerStore
from serving.request_log import RequestLog
from serving.result_cache import ResultCache
from serving.seal import Seal
from serving.versions import Version
from tests.serving.cache_support import CHAT, Bench, chat, events, put, word
from tests.serving.serving_support import MODEL, digest_of, unasked
from tests.serving.test_single_flight import ask_all, waits

LABELS: dict[str, Any] = {"choice": ["b", "a", "ü"]}
SCHEMA: dict[str, Any] = {"json": {"type": "object", "properties": {"z": {}, "a": {}}}}
VERSION = Version(
    *(MODEL, f"{MODEL}-v0001", digest_of("1"), Path("/no"), "served", 2048, "bfloat16"),
    form=LABELS,
)
OWN = ("structured_outputs", "response_format", "tools", "continue_final_message")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def call(body: dict[str, Any], version: Version = VERSION, path: str = CHAT) -> Call:
    return Call(path, body, lambda: version, "id")


def said(answer: Any) -> str:
    return str(answer.headers["x-ftdm-constrained"])


@given(st.sampled_from(OWN), JSON, st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_what_the_caller_wrote_wins(key: str, value: Any, beside: dict[str, Any]) -> None:
    body = {**beside, key: value}
    sent = json.loads(call(body).sent_as(VERSION))
    if value is None or value is False or value == []:
        assert sent == body | {"structured_outputs": LABELS, "model": "served"}
    else:
        assert sent == body | {"model": "served"}
        assert call(body).told_by(VERSION)["x-ftdm-constrained"] == "own"


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_nothing_but_the_form_is_added(body: dict[str, Any]) -> None:
    sent = json.loads(call(body).sent_as(VERSION))
    assert sent == body | {"structured_outputs": LABELS, "model": "served"}
    free = replace(call(body), free=True)
    assert json.loads(free.sent_as(VERSION)) == body | {"model": "served"}


@pytest.mark.parametrize(
    ("path", "free", "form", "held"),
    [
        (CHAT, False, LABELS, "choice"),
        (CHAT, False, SCHEMA, "json"),
        (CHAT, False, {}, "off"),
        (CHAT, True, LABELS, "off"),
        ("/v1/completions", False, LABELS, "off"),
    ],
)
def test_who_is_held_to_what(path: str, free: bool, form: dict[str, Any], held: str) -> None:
    kept = form_for(path, False, form, free)
    assert held_to(False, kept) == held
    assert fields_of(kept) == ({} if held == "off" else {"structured_outputs": form})


def test_a_wish_is_on_or_off() -> None:
    assert is_free({"x-ftdm-constrained": "Off"})
    assert not is_free({})
    assert not is_free({"x-ftdm-constrained": " ON "})
    with pytest.raises(ApiError) as error:
        is_free({"x-ftdm-constrained": "no"})
    assert "write `on` or `off`" in error.value.message


def test_the_gateway_adds_the_form_and_says_so(bench: Bench) -> None:
    put(bench.home, bench.two_url, form=SCHEMA)
    answer = bench.ask(chat(temperature=0))
    (body,) = bench.two.bodies
    # The very bytes: an answer's keys come in the order of the schema's.
    assert json.dumps(body.pop("structured_outputs")) == json.dumps(SCHEMA)
    assert body == chat(temperature=0) | {"model": f"{MODEL}@v0001"}
    assert said(answer) == "json"
    assert said(bench.ask(chat("b", response_format={"type": "text"}))) == "own"
    assert bench.two.bodies[-1]["response_format"] == {"type": "text"}
    assert "structured_outputs" not in bench.two.bodies[-1]


def test_a_header_asks_for_a_free_answer(bench: Bench) -> None:
    put(bench.home, bench.two_url, form=LABELS)
    assert said(bench.ask(chat(), **{"x-ftdm-constrained": "off"})) == "off"
    assert said(bench.ask(chat(), **{"x-ftdm-constrained": "on"})) == "choice"
    assert ["structured_outputs" in one for one in bench.two.bodies] == [False, True]
    refused = bench.ask(chat(), **{"x-ftdm-constrained": "please"})
    assert (refused.status_code, bench.two.count) == (400, 2)
    assert refused.json()["error"]["code"] == "invalid_header"


def test_a_completion_is_left_alone(bench: Bench) -> None:
    put(bench.home, bench.two_url, form=LABELS)
    answer = bench.ask({"model": MODEL, "prompt": "a"})
    assert (said(answer), bench.two.bodies) == (
        "off",
        [{"model": f"{MODEL}@v0001", "prompt": "a"}],
    )


def test_a_stream_is_held_too(bench: Bench) -> None:
    put(bench.home, bench.two_url, form=LABELS)
    for _ in ("computed", "replayed"):
        streamed = bench.ask(chat(stream=True))
        assert said(streamed) == "choice"
        assert events(streamed)
    (body,) = bench.two.bodies
    assert body["structured_outputs"] == LABELS


def test_each_version_has_its_own_form(bench: Bench) -> None:
    put(bench.home, bench.two_url, 1, form=LABELS)
    put(bench.home, bench.two_url, 2, form=SCHEMA)
    put(bench.home, bench.two_url, 3)
    names = {
        MODEL: "off",
        f"{MODEL}@previous": "json",
        f"{MODEL}@v0001": "choice",
        f"{MODEL}@v0002": "json",
    }
    for name, held in names.items():
        assert said(bench.ask(chat() | {"model": name})) == held
    with PointerStore(bench.home) as pointers:
        pointers.rollback(MODEL, by="t", reason="r", admit=unasked)
    assert said(bench.ask(chat())) == "json"


def test_kept_answers_are_given_for_the_same_form_only(bench: Bench) -> None:
    def answered(**headers: str) -> tuple[str, str]:
        answer = bench.ask(chat(), **headers)
        return word(answer), said(answer)

    put(bench.home, bench.two_url, form=LABELS)
    assert [answered(), answered()] == [("miss", "choice"), ("hit", "choice")]
    off = {"x-ftdm-constrained": "off"}
    assert [answered(**off), answered(**off)] == [("miss", "off"), ("hit", "off")]
    # The same weights, another form.
    put(bench.home, bench.two_url, form={"choice": ["a"]})
    assert answered() == ("miss", "choice")
    own = bench.ask(chat(structured_outputs=LABELS))
    assert (word(own), said(own)) == ("miss", "own")
    put(bench.home, bench.two_url, form=LABELS)
    assert answered() == ("hit", "choice")
    assert bench.two.count == 4


def test_requests_in_flight_are_joined_for_the_same_form_only(bench: Bench) -> None:
    put(bench.home, bench.two_url, form=LABELS)
    bench.two.gate.clear()

    async def asked() -> list[Any]:
        bodies = [chat(), chat(), chat(structured_outputs=LABELS)]
        waiting = asyncio.create_task(ask_all(bench, bodies))
        await waits(bench, len(bodies))
        bench.two.gate.set()
        return await waiting

    told = [(word(one), said(one)) for one in asyncio.run(asked())]
    assert sorted(told) == [("joined", "choice"), ("miss", "choice"), ("miss", "own")]
    assert bench.two.count == 2


def test_a_form_that_changes_meanwhile_is_that_of_the_answer() -> None:
    """What is kept under one form's name was never computed with another."""
    forms: list[dict[str, Any]] = [LABELS, SCHEMA]
    sent: list[Any] = []

    def resolve() -> Version:
        return replace(VERSION, form=forms.pop(0) if len(forms) > 1 else forms[0])

    async def send(one: Call) -> Response:
        version = one.resolve()
        sent.append(json.loads(one.sent_as(version))["structured_outputs"])
        return Response(b"{}", 200, one.told_by(version))

    async def asked() -> Response:
        cache = ResultCache(send, Seal(bytes(32)), None)
        try:
            return await cache.answer(Call(CHAT, chat(temperature=0), resolve, "id"), {})
        finally:
            await cache.close()

    answer = asyncio.run(asked())
    assert sent == [SCHEMA]
    assert (answer.headers["x-ftdm-constrained"], word_of(answer)) == ("json", "miss")


@pytest.mark.parametrize("stream", [False, True])
def test_the_request_log_tells_what_an_answer_was_held_to(bench: Bench, stream: bool) -> None:
    put(bench.home, bench.two_url, 1, form=LABELS)
    put(bench.home, bench.two_url, 2, form=SCHEMA)
    asked: list[tuple[dict[str, Any], dict[str, str]]] = [
        (chat(), {}),
        (chat(), {}),
        (chat() | {"model": f"{MODEL}@v0001"}, {}),
        (chat(response_format={"type": "text"}), {}),
        (chat(), {"x-ftdm-constrained": "off"}),
        (chat(), {"x-ftdm-constrained": "no word of ours"}),
        (chat() | {"model": f"{MODEL}@v0009"}, {}),
    ]
    told = [bench.ask(body | {"stream": stream}, **headers) for body, headers in asked]
    log = RequestLog(bench.home)
    entries = [json.loads(row.line)["content"] for row in log.rows()]
    log.close()
    held = ["json", "json", "choice", "own", "off", "", ""]
    ended = [one for one in entries if one["event"] != "stream_began"]
    assert [one["constrained"] for one in ended] == held
    assert [one.headers.get("x-ftdm-constrained", "") for one in told] == held
    assert [one["cached"] for one in ended[:3]] == [False, True, False]
    began = [one for one in entries if one["event"] == "stream_began"]
    assert [one["constrained"] for one in began] == (held[:5] if stream else [])


def word_of(answer: Response) -> str:
    return answer.headers["x-ftdm-cache"]


def test_the_openai_client_reads_the_header(bench: Bench) -> None:
    put(bench.home, bench.two_url, form=LABELS)
    with openai.OpenAI(base_url=f"{bench.url}/v1", api_key=bench.gateway.key) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "a"}]
        )
    assert raw.headers["x-ftdm-constrained"] == "choice"
