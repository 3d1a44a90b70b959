"""The result cache in the gateway: real Valkey, replicas in this process that count."""

import json
from typing import Any

import openai
import pytest

from serving.api_keys import Grant, KeyStore
from serving.pointer import PointerStore
from serving.request_log import RequestLog
from tests.serving.cache_support import Bench, chat, events, put, text, word
from tests.serving.serving_support import MODEL, bearer, digest_of, unasked


def test_the_same_question_is_computed_once(bench: Bench) -> None:
    first = bench.ask(chat())
    second = bench.ask(chat(user="somebody else"), **{"x-request-id": "abc"})
    assert (word(first), word(second)) == ("miss", "hit")
    assert first.content == second.content
    assert bench.one.count == 1
    assert second.headers["x-ftdm-version"] == f"{MODEL}-v0001"
    assert second.headers["x-ftdm-digest"] == digest_of(f"{MODEL}-v0001")
    assert second.headers["x-request-id"] == "abc"
    assert second.headers["content-type"] == first.headers["content-type"]


def test_an_alias_and_its_version_share_an_answer(bench: Bench) -> None:
    bench.ask(chat())
    assert word(bench.ask(chat() | {"model": f"{MODEL}@v0001"})) == "hit"


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_learns_nothing_of_what_another_asks_where_the_terms_say_so(
    bench: Bench, stream: bool
) -> None:
    with KeyStore(bench.home) as keys:
        other = bearer(keys.new(Grant("other"), by="t").text)
    put(bench.home, bench.two_url, 2, shared=False)
    body = chat(stream=stream)
    assert [word(bench.ask(body)) for _ in range(2)] == ["miss", "hit"]
    assert [word(bench.ask(body, **other)) for _ in range(2)] == ["miss", "hit"]
    assert bench.two.count == 2
    put(bench.home, bench.two_url, 3, shared=True)
    assert [word(bench.ask(body)), word(bench.ask(body, **other))] == ["miss", "hit"]


def test_promotion_and_rollback_never_give_another_versions_answer(bench: Bench) -> None:
    def answered() -> tuple[str, str, str]:
        answer = bench.ask(chat())
        said = answer.json()["choices"][0]["message"]["content"]
        return word(answer), said, answer.headers["x-ftdm-version"]

    assert answered() == ("miss", "one says hello", f"{MODEL}-v0001")
    assert answered()[0] == "hit"
    put(bench.home, bench.two_url, 2)
    assert answered() == ("miss", "two says hello", f"{MODEL}-v0002")
    assert answered() == ("hit", "two says hello", f"{MODEL}-v0002")
    with PointerStore(bench.home) as pointers:
        pointers.rollback(MODEL, by="t", reason="r", admit=unasked)
    assert answered() == ("hit", "one says hello", f"{MODEL}-v0001")


def test_a_finished_stream_answers_the_next_request(bench: Bench) -> None:
    streamed = bench.ask(chat(stream=True))
    assert word(streamed) == "miss"
    assert not any("usage" in one for one in events(streamed))
    plain = bench.ask(chat())
    assert word(plain) == "hit"
    whole = plain.json()
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "one says hello"}
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == 3
    assert whole["id"] == events(streamed)[0]["id"]
    assert bench.one.count == 1


@pytest.mark.parametrize("usage", [False, True])
def test_an_answer_is_replayed_as_a_stream(bench: Bench, usage: bool) -> None:
    whole = bench.ask(chat()).json()
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    replayed = bench.ask(chat(stream=True, **options))
    assert word(replayed) == "hit"
    assert replayed.headers["content-type"].startswith("text/event-stream")
    told = events(replayed)
    assert text(told) == "one says hello"
    assert {one["id"] for one in told} == {whole["id"]}
    assert {one["object"] for one in told} == {"chat.completion.chunk"}
    assert [one["usage"] for one in told if "usage" in one] == ([whole["usage"]] if usage else [])


def test_the_client_library_reads_what_is_replayed(bench: Bench) -> None:
    key = bench.gateway.key
    with openai.OpenAI(base_url=f"{bench.url}/v1", api_key=key, max_retries=0) as client:
        for _ in range(2):
            with client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
            ) as stream:
                said = [event.choices[0].delta.content or "" for event in stream]
            assert "".join(said) == "one says hi"
        plain = client.completions.create(model=MODEL, prompt="hi")
        with client.completions.create(model=MODEL, prompt="hi", stream=True) as stream:
            again = "".join(event.choices[0].text for event in stream)
    assert plain.choices[0].text == again == "one says hi"
    assert bench.one.count == 2


@pytest.mark.parametrize("stream", [False, True])
def test_the_request_log_tells_what_was_not_computed(bench: Bench, stream: bool) -> None:
    for _ in range(2):
        assert bench.ask(chat(stream=stream)).status_code == 200
    log = RequestLog(bench.home)
    entries = [json.loads(row.line)["content"] for row in log.rows()]
    log.close()
    ended = [one for one in entries if one["event"] != "stream_began"]
    assert [one["cached"] for one in ended] == [False, True]
    # What a stream's caller did not ask for is in the log all the same.
    assert [one["completion_tokens"] for one in ended] == [3, 3]
    assert {one["version"] for one in ended} == {f"{MODEL}-v0001"}


def test_errors_and_broken_answers_are_not_kept(bench: Bench) -> None:
    bench.one.failures = 1
    assert bench.ask(chat()).status_code == 500
    bench.one.breaks = True
    assert "[DONE]" not in bench.ask(chat(stream=True)).text
    bench.one.breaks, bench.one.finish = False, "abort"
    assert word(bench.ask(chat(stream=True))) == "miss"
    assert word(bench.ask(chat())) == "miss"
    bench.one.finish = "length"
    assert word(bench.ask(chat())) == "miss"
    assert word(bench.ask(chat())) == "hit"


@pytest.mark.parametrize("fields", [{"temperature": 0.5}, {"n": 2}, {"logprobs": True}])
def test_what_may_differ_is_computed_each_time(bench: Bench, fields: dict[str, Any]) -> None:
    assert [word(bench.ask(chat(**fields))) for _ in range(2)] == ["off", "off"]
    assert bench.one.count == 2


def test_a_request_without_a_temperature_has_the_models(bench: Bench) -> None:
    put(bench.home, bench.two_url, 2, temperature=0.7)
    assert word(bench.ask(chat())) == "off"
    assert word(bench.ask(chat(temperature=0))) == "miss"
    assert word(bench.ask(chat(temperature=0.0))) == "hit"
    put(bench.home, bench.two_url, 3, temperature=None)
    assert word(bench.ask(chat())) == "off"


def test_a_header_asks_for_the_cache_or_passes_it_over(bench: Bench) -> None:
    asked = {"x-ftdm-cache": "on"}
    warm = chat(temperature=0.9)
    assert [word(bench.ask(warm, **asked)) for _ in range(2)] == ["miss", "hit"]
    assert word(bench.ask(warm, **{"x-ftdm-cache": "off"})) == "off"
    wrong = bench.ask(warm, **{"x-ftdm-cache": "yes"})
    assert wrong.status_code == 400
    assert "write `on` or `off`" in wrong.json()["error"]["message"]


def test_a_models_own_setting_ends_the_cache_for_it(bench: Bench) -> None:
    put(bench.home, bench.two_url, 2, enabled=False)
    assert word(bench.ask(chat(), **{"x-ftdm-cache": "on"})) == "off"


def test_callers_with_different_keys_share_an_answer_by_design(bench: Bench) -> None:
    """Same model, same question, same answer, whoever asks: the cache knows no callers."""
    with KeyStore(bench.home) as keys:
        texts = [keys.new(Grant(name), by="t").text for name in ("ana", "bob")]
    answers = [bench.ask(chat(), authorization=f"Bearer {text}") for text in texts]
    assert [word(one) for one in answers] == ["miss", "hit"]
    # Who shows no key, or one for another model, is told nothing of what is kept.
    assert bench.ask(chat(), authorization="Bearer none").status_code == 401
    with KeyStore(bench.home) as keys:
        other = keys.new(Grant("eve", models=("other",)), by="t").text
    refused = bench.ask(chat(), authorization=f"Bearer {other}")
    assert refused.status_code in (403, 404)
    assert "x-ftdm-cache" not in refused.headers


def test_the_store_shows_neither_question_nor_answer_and_forgets(bench: Bench) -> None:
    with bench.cache() as cache:
        cache.flushall()
        put(bench.home, bench.two_url, 2, ttl_s=77)
        bench.ask(chat("a secret question"))
        (name,) = cache.keys()
        kept = cache.get(name)
        assert isinstance(kept, bytes)
        assert not any(part in name + kept for part in (b"secret", b"two says", b"usage"))
        assert 70 <= cache.ttl(name) <= 77
    assert (bench.home / "cache.secret").stat().st_mode & 0o077 == 0


def test_what_does_not_open_is_a_miss(bench: Bench) -> None:
    with bench.cache() as cache:
        cache.flushall()
        bench.ask(chat("a"))
        (name_a,) = cache.keys()
        kept_a = cache.get(name_a)
        bench.ask(chat("b"))
        (name_b,) = set(cache.keys()) - {name_a}
        # Another question's answer, a torn one, nothing, and something else.
        for planted in (kept_a, kept_a[:-1], b"", b"{}", b"x" * 500_000):
            cache.set(name_b, planted)
            answer = bench.ask(chat("b"))
            assert word(answer) == "miss"
            assert "one says b" in answer.text
        assert word(bench.ask(chat("b"))) == "hit"


def test_a_large_answer_is_not_kept(bench: Bench) -> None:
    large = chat("x" * 300_000)
    assert [word(bench.ask(large)) for _ in range(2)] == ["miss", "miss"]
