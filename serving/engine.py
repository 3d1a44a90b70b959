"""The one definition of the inference engine: how vLLM is started on a merged model.

Evaluation and production both take their command line from `engine_command`; what is evaluated
is what is served (same flags, same environment, same chat template and generation_config.json,
both read by vLLM from the model folder itself).

Invariants:
- the engine listens on loopback only, or in a pod that only the gateway reaches: vLLM leaves
  `/invocations`, `/metrics` and others open even when it is given a key, so it is never exposed;
- weights are read as safetensors only, remote code is never trusted, the hub is never asked;
- `EngineCommand.env` holds overrides: a runner starts `argv` with its own environment updated by
  them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from serving.otlp import traces_endpoint, tracing_environment

PYTHON_VARIABLE = "FTDM_SERVING_PYTHON"
HOST = "127.0.0.1"
# Longest silence within one answer: of a replica that takes longer nothing more is expected.
ANSWER_TIMEOUT_S = 120.0


class EngineError(Exception):
    """The engine cannot be started as asked; the message says what to do."""


@dataclass(frozen=True)
class EngineCommand:
    """How to start one engine and where it then answers.

    Attributes:
        argv: The command line.
        env: Environment variables to set on top of the runner's own.
        health_url: Answers 200 once the engine is ready.
        base_url: Root of the OpenAI-style API, without `/v1`.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    health_url: str
    base_url: str


def serving_python() -> Path:
    """Return the interpreter of the vLLM environment.

    Raises:
        EngineError: There is none.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    beside = Path(__file__).resolve().parents[1] / ".venv-serving" / "bin" / "python"
    python = Path(named) if named else beside
    if python.is_file() and os.access(python, os.X_OK):
        return python
    where = f"{PYTHON_VARIABLE} names {python}" if named else f"looked for {python}"
    raise EngineError(
        f"No interpreter of the vLLM environment ({where}): run `make serving-env`, "
        f"or set {PYTHON_VARIABLE} to a Python that has vLLM."
    )


def engine_command(
    model_folder: Path,
    served_name: str,
    port: int,
    *,
    cores: list[int] | None,
    max_model_len: int,
    dtype: str,
) -> EngineCommand:
    """Build the command that serves one merged model.

    Args:
        model_folder: Folder with config.json, tokenizer, generation_config.json and safetensors.
        served_name: The model name that requests must give.
        port: Port on loopback.
        cores: CPU cores that it may count on, one thread each; None means every core that this
            process may use.
        max_model_len: Longest prompt and completion together, in tokens.
        dtype: vLLM's name of the weights' type, such as `bfloat16`.

    Raises:
        EngineError: No model in the folder, or no vLLM environment.
    """
    folder = model_folder.resolve()
    if not (folder / "config.json").is_file():
        raise EngineError(f"{folder} holds no config.json: give the folder of a merged model.")
    if not any(folder.glob("*.safetensors")):
        raise EngineError(f"{folder} holds no *.safetensors: only safetensors weights are served.")
    return command_for(
        folder,
        served_name,
        port,
        python=str(serving_python()),
        host=HOST,
        threads=len(os.sched_getaffinity(0) if cores is None else cores),
        max_model_len=max_model_len,
        dtype=dtype,
    )


def command_for(
    folder: Path,
    served_name: str,
    port: int,
    *,
    python: str,
    host: str,
    threads: int,
    max_model_len: int,
    dtype: str,
) -> EngineCommand:
    """Return the command of an engine wherever it runs; nothing of this machine is looked at.

    Args:
        folder: As the engine sees it.
        served_name: The model name that requests must give.
        port: Where it listens.
        python: The interpreter of the vLLM environment, as the engine's machine names it.
        host: The address on which it listens.
        threads: How many it may count with on the CPU.
        max_model_len: Longest prompt and completion together, in tokens.
        dtype: vLLM's name of the weights' type.
    """
    base_url = f"http://{host}:{port}"
    argv = [python, "-m", "vllm.entrypoints.cli.main", "serve", str(folder)]
    argv += ["--served-model-name", served_name, "--host", host, "--port", str(port)]
    argv += ["--max-model-len", str(max_model_len), "--dtype", dtype]
    # Blocks of 32: with the CPU default of 128, prompts below 128 tokens never hit the prefix
    # cache. Eager: compiling takes longer than it wins back on short prompts.
    argv += ["--enforce-eager", "--block-size", "32", "--load-format", "safetensors"]
    argv += ["--disable-uvicorn-access-log"]
    # Messages reach the chat template as text, as in training; by itself the engine would guess
    # from the template's source whether to pass a list of parts.
    argv += ["--chat-template-content-format", "string"]
    # A form of JSON is kept without white space between its parts, as in training: where any would
    # do, a small model may write nothing else. Of the engine's libraries that can do so, this one
    # begins at once (the other took seconds to compile a schema) and knows escapes in a string of
    # limited length; what it does not know of a schema it refuses instead of leaving it out.
    argv += ["--structured-outputs-config.backend", "guidance"]
    argv += ["--structured-outputs-config.disable_any_whitespace", "true"]
    # The model runs inside the engine's process. With a worker of its own, both sides spin for a
    # second after every message: a loaded replica took two cores, and starved what started beside.
    argv += ["--distributed-executor-backend", "uni"]
    if endpoint := traces_endpoint():
        argv += ["--otlp-traces-endpoint", endpoint]
    return EngineCommand(tuple(argv), _environment(threads), f"{base_url}/health", base_url)


def _environment(threads: int) -> dict[str, str]:
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # vLLM's CPU build takes the executor `uni` only with this; the server's own processes stay.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
        **tracing_environment("ftdm-engine"),
    }
