"""The gateway beside LiteLLM's proxy: one fake upstream asked directly and through each of them.

Run as `python -m bench.gateway_peers [--litellm PYTHON] [--database URL] [--rounds 2]`; PYTHON is
the interpreter of an environment of its own (`pip install 'litellm[proxy]'`), without it LiteLLM is
left out. URL is an empty database of a Postgres: a second gateway has its state and its log there.
Upstream, proxies and caller are processes of their own (`bench/load.py`); all are asked in every
round, one after the other, so that they meet the same machine. One worker each; neither keeps
answers. Ours checks a key and records every request before it answers.
"""

import argparse
import os
import secrets
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.load import PATH, Found, ask, fake_upstream, running
from ftdm_assets.provenance.digests import file_digest
from serving.engine import HOST
from serving.health import free_port
from serving.home import DATABASE_VARIABLE
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.versions import Replica, Version

MODEL = "bench"
# Requests a second; 0 is as many as are answered.
RATES = (0, 50, 200)
_GATEWAY, _LITELLM, _DIRECT = "gateway", "LiteLLM's proxy", "direct"
_SHARED = "gateway, Postgres"


@dataclass(frozen=True)
class Target:
    """An address to ask, and the key that it wants (blank: none)."""

    url: str
    key: str = ""


@contextmanager
def our_gateway(folder: Path, upstream: str, database: str = "") -> Iterator[Target]:
    """Run the gateway on a home whose production is the upstream; blank: with SQLite."""
    os.environ[DATABASE_VARIABLE] = database
    digest = file_digest(Path(__file__))
    version = Version(
        *(MODEL, f"{MODEL}-v0001", digest, folder, "served", 2048, "bfloat16"),
        replicas=(Replica("upstream", upstream, 0, None),),
        state="ready",
    )
    with PointerStore(folder) as store:
        store.record_version(version)
        store.promote(MODEL, version.version, by="bench", reason="bench", admit=lambda _: None)
    url = f"http://{HOST}:{(port := free_port())}"
    command = [sys.executable, "-m", "serving.gateway", "--home", str(folder)]
    command += ["--port", str(port), "--metrics-port", str(free_port())]
    with running(command, f"{url}/health"):
        target = Target(url, local_key(folder))
        os.environ[DATABASE_VARIABLE] = ""
        yield target


@contextmanager
def litellm_proxy(folder: Path, upstream: str, python: Path) -> Iterator[Target]:
    """Run LiteLLM's proxy of another environment, which starts with a key only."""
    key = f"sk-{secrets.token_hex(32)}"
    where = {"model": "openai/served", "api_base": f"{upstream}/v1", "api_key": "none"}
    settings = {"model_list": [{"model_name": MODEL, "litellm_params": where}]}
    config = folder / "litellm.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    url = f"http://{HOST}:{(port := free_port())}"
    command = [str(python.with_name("litellm")), "--config", str(config), "--host", HOST]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    own = {"LITELLM_MASTER_KEY": key, "LITELLM_LOG": "ERROR", "PYTHONPATH": ""}
    own["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    with (folder / "litellm.log").open("wb") as log:
        how = {"env": os.environ | own, "stdout": log, "stderr": log}
        with running(command, f"{url}/health/liveliness", **how):
            yield Target(url, key)


def compare(
    targets: dict[str, Target], rounds: int, seconds: float
) -> dict[str, dict[int, list[Found]]]:
    """Ask every address at every rate, `rounds` times."""
    found: dict[str, dict[int, list[Found]]] = {
        name: {rate: [] for rate in RATES} for name in targets
    }
    for one in targets.values():
        ask(one.url + PATH, MODEL, 1.0, key=one.key)
    for _ in range(rounds):
        for rate in RATES:
            for name, one in targets.items():
                url = one.url + PATH
                found[name][rate].append(ask(url, MODEL, seconds, rate=rate, key=one.key))
    return found


def show(found: dict[str, dict[int, list[Found]]]) -> None:
    """Print the medians of the rounds, and the ratios."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of the rounds")
    print(f"{'':18} {'req/s, 16 open':>15}  " + "  ".join(
        f"{f'p50, p99 ms at {rate}/s':>26}" for rate in RATES if rate))  # fmt: skip
    for name, rates in found.items():
        cells = "  ".join(f"{_latency(rates[rate]):>26}" for rate in RATES if rate)
        print(f"{name:18} {_throughput(rates):15.0f}  {cells}")
    throughputs = {name: _throughput(rates) for name, rates in found.items()}
    pairs = ((_GATEWAY, _DIRECT), (_SHARED, _DIRECT), (_LITELLM, _DIRECT), (_GATEWAY, _LITELLM))
    for one, other in pairs:
        if one in found and other in found:
            ratio = throughputs[one] / throughputs[other]
            print(f"{one} / {other}: {ratio:.3g} times the throughput")
    for name in found:
        if name != _DIRECT:
            print(f"{name} adds, p50: {_added(found, name)}")


def _throughput(rates: dict[int, list[Found]]) -> float:
    return statistics.median(one.per_second for one in rates[0])


def _latency(rounds: list[Found]) -> str:
    p50, p99 = (statistics.median(times) for times in zip(
        *((one.p50_ms, one.p99_ms) for one in rounds), strict=True))  # fmt: skip
    failed = sum(one.failed for one in rounds)
    return f"{p50:.1f}, {p99:.1f}" + (f" ({failed} failed)" if failed else "")


def _added(found: dict[str, dict[int, list[Found]]], name: str) -> str:
    def p50(who: str, rate: int) -> float:
        return statistics.median(one.p50_ms for one in found[who][rate])

    added = ((rate, p50(name, rate) - p50(_DIRECT, rate)) for rate in RATES if rate)
    return ", ".join(f"{ms:.1f} ms at {rate}/s" for rate, ms in added)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_peers")
    parser.add_argument("--litellm", type=Path, help="the Python of LiteLLM's environment")
    parser.add_argument("--database", help="an empty database of a Postgres")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each rate and address")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftdm-bench-")))
        upstream = stack.enter_context(fake_upstream())
        gateway = stack.enter_context(our_gateway(folder, upstream))
        targets = {_DIRECT: Target(upstream), _GATEWAY: gateway}
        if options.database:
            home = folder / "shared"
            shared = our_gateway(home, upstream, options.database)
            targets[_SHARED] = stack.enter_context(shared)
        if options.litellm:
            proxy = litellm_proxy(folder, upstream, options.litellm.absolute())
            targets[_LITELLM] = stack.enter_context(proxy)
        found = compare(targets, options.rounds, options.seconds)
    show(found)


if __name__ == "__main__":
    main()
