"""What vLLM is worth over a plain loop: the same model, the same questions, greedy, one machine.

Run as `python -m bench.engine_ratio FOLDER [--requests 200]`; FOLDER holds a model (the base one:
`python -m gpu_steps.prepare_base`). The engine is started as production starts it
(`serving.engine.engine_command`) and asked by `gpu_steps.predict`; then `transformers` generates
one answer after the other in this process. Both have all cores, and loading counts for neither;
answers are free, since `transformers` holds them to no form (`bench.constrained` tells what that
costs the engine).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftdm_assets.model_folder import load_model
from ftdm_assets.provenance.files import jsonl_bytes, read_jsonl
from golden.client import AskSettings, chat_body
from golden.examples import read_examples
from golden.general import answer_text
from serving.engine import engine_command
from serving.health import free_port

_SERVED, _LONGEST, _DTYPE = "bench", 2048, "bfloat16"
_START_S, _ALL_S = 600.0, 3600.0


def questions(count: int) -> list[str]:
    """Return the first golden inputs of `support_tickets`."""
    model = load_model("support_tickets")
    return [one.input for one in read_examples(model.resolve(model.settings.golden.path))][:count]


def through_engine(
    folder: Path, texts: Sequence[str], max_tokens: int, concurrency: int, work: Path
) -> tuple[float, list[str]]:
    """Return requests per second, and the answers in order.

    Raises:
        SystemExit: The engine does not start, or a request fails.
    """
    asking = AskSettings(model=_SERVED, base_url="", max_tokens=max_tokens)
    requests = [
        {"id": str(number), "path": "/v1/chat/completions", "body": chat_body(text, asking)}
        for number, text in enumerate(texts)
    ]
    (work / "requests.jsonl").write_bytes(jsonl_bytes(requests))
    command = engine_command(
        folder, _SERVED, free_port(), cores=None, max_model_len=_LONGEST, dtype=_DTYPE
    )
    config = {
        "engine": asdict(command),
        **{name: str(work / f"{name}.jsonl") for name in ("requests", "output")},
        "result": str(work / "result.json"),
        "concurrency": concurrency,
        "startup_timeout_s": _START_S,
        "request_timeout_s": 300,
        "retries": 0,
    }
    (work / "predict.json").write_text(json.dumps(config), encoding="utf-8")
    program = [sys.executable, "-m", "gpu_steps.predict", "--config", str(work / "predict.json")]
    if subprocess.run(program, timeout=_ALL_S, check=False).returncode:
        raise SystemExit("the engine failed; see above")
    rows = read_jsonl(work / "output.jsonl")
    result = json.loads((work / "result.json").read_text(encoding="utf-8"))
    return result["requests_per_second"], [answer_text(row["response"]) for row in rows]


def through_loop(folder: Path, texts: Sequence[str], max_tokens: int) -> tuple[float, list[str]]:
    """Return requests per second of `generate`, one after the other, and the answers in order."""
    # Read when torch is loaded, which is only once the engine has gone: threads that spin while
    # they wait would slow the loop down beside any other load.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from gpu_steps import models

    models.quiet_libraries()
    model, tokenizer = models.load_model(folder, _DTYPE).eval(), models.load_tokenizer(folder)

    def answer(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        prompt: Any = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        made = model.generate(**prompt, max_new_tokens=max_tokens, do_sample=False)
        new = made[0][prompt["input_ids"].shape[1] :]
        return str(tokenizer.decode(new, skip_special_tokens=True))

    with torch.inference_mode():
        answer(texts[0])
        started = time.perf_counter()
        answers = [answer(text) for text in texts]
        return len(texts) / (time.perf_counter() - started), answers


def main() -> None:
    """Print both, their ratio, and how many answers agree."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine_ratio")
    parser.add_argument("folder", type=Path, help="a model, such as prepare_base makes")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    texts = questions(options.requests)
    with tempfile.TemporaryDirectory(prefix="ftdm-bench-") as work:
        engine, ours = through_engine(
            options.folder, texts, options.max_tokens, options.concurrency, Path(work)
        )
    before = os.getloadavg()[0]
    loop, plain = through_loop(options.folder, texts, options.max_tokens)
    agree = sum(one.strip() == other.strip() for one, other in zip(ours, plain, strict=True))
    print(f"{len(texts)} requests, {os.cpu_count()} cores, load between the two {before:.1f}")
    print(f"vLLM, {options.concurrency} at a time: {engine:.2f} requests/s")
    print(f"transformers, one at a time: {loop:.2f} requests/s")
    print(f"ratio {engine / loop:.1f}; {agree} of {len(texts)} answers are the same")


if __name__ == "__main__":
    main()
