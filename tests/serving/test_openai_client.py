"""The gateway as the `openai` client library sees it."""

from collections.abc import Iterator

import openai
import pytest

from serving.api_keys import Grant, KeyStore
from serving.local_key import local_key
from tests.serving import openai_calls
from tests.serving.serving_support import MODEL, Running


@pytest.fixture
def client(running: Running) -> Iterator[openai.OpenAI]:
    running.put("v0001", replicas=1)
    key = local_key(running.home)
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0) as one:
        yield one


def test_everything_a_caller_does(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "words=3"}],
        extra_body={"structured_outputs": {"choice": ["a"]}},
    )
    assert answer.choices[0].message.content == "w0 w1 w2"
    assert answer.usage
    assert answer.usage.completion_tokens == 3

    raw = client.chat.completions.with_raw_response.create(
        model=f"{MODEL}@v0001", messages=[{"role": "user", "content": "hi"}]
    )
    assert raw.headers["x-ftdm-version"] == f"{MODEL}-v0001"

    plain = client.completions.create(model=MODEL, prompt="words=2")
    assert plain.choices[0].text == "w0 w1"

    with client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "words=4"}], stream=True
    ) as stream:
        words = [event.choices[0].delta.content for event in stream]
    assert words == ["w0 ", "w1 ", "w2 ", "w3 "]

    assert [one.id for one in client.models.list()] == [MODEL, f"{MODEL}@v0001"]
    assert client.models.retrieve(MODEL).owned_by == "ftdm"


def test_the_usual_clients_need_only_the_address(running: Running) -> None:
    running.put("v0001", replicas=1)
    told = openai_calls.calls(f"{running.url}/v1", local_key(running.home), MODEL, "words=3", 3)
    assert {one.strip() for one in told.values()} == {"w0 w1 w2"}
    assert set(told) >= {"chat", "langchain", "langchain stream"}


def test_errors_have_the_clients_own_types(running: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="other", prompt="x")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=MODEL, prompt="status=400")
    with pytest.raises(openai.APIStatusError) as large:
        client.completions.create(model=MODEL, prompt="x" * 5_000_000)
    assert large.value.status_code == 413

    def ask(key: str) -> None:
        client.with_options(api_key=key).completions.create(model=MODEL, prompt="x")

    with pytest.raises(openai.AuthenticationError) as wrong:
        ask("sk-none")
    assert wrong.value.code == "invalid_api_key"
    with KeyStore(running.home) as store:
        slow = store.new(Grant("slow", per_minute=1), by="t")
        other = store.new(Grant("other", models=("other",)), by="t")
    ask(slow.text)
    with pytest.raises(openai.RateLimitError) as limited:
        ask(slow.text)
    assert 0 < int(limited.value.response.headers["retry-after"]) <= 60
    with pytest.raises(openai.PermissionDeniedError):
        ask(other.text)
