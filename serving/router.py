"""The router in front of a version's replicas: smg, one process for each version, on loopback.

Why smg and not vllm-router, from a trial with two upstreams under load (both are Rust, add some
0.3 ms, and lost no plain request when one upstream was killed):
- a stream whose replica dies ends, with smg, in an OpenAI-style error event; with vllm-router the
  connection just breaks;
- smg passes the request on as it came; vllm-router adds a dozen fields of its own to it, and lets
  vLLM warn about them;
- smg's errors are OpenAI-style JSON, vllm-router's plain text;
- a stopped (hung) upstream costs both the request timeout once, then is left out until it answers.

Neither asks a replica who it is, so `serving.rotation` does, and has the router follow through its
control plane. The gateway could balance over the replicas by itself and do without a router; but
only what all requests pass knows which replica has the fewest, and smg also sends a request on to
the next replica when one is killed. Its own health limits stay wide: it would leave out the last
replica too, and with 1 s, once, a version that is only busy would have none (measured: it leaves
out a hung one after 1.6 to 1.8 s then, instead of 5.0 s).

Least requests, not prefix affinity: all prompts of one model begin alike, so affinity would send
every request to the same replica. `--request-timeout-secs` bounds whole streams too.
"""

import shutil
from pathlib import Path

from serving.engine import HOST
from serving.home import interpreter

REQUEST_TIMEOUT_S = 120


class RouterError(Exception):
    """The router cannot be started; the message says what to do."""


def smg_binary() -> Path:
    """Return the `smg` command beside this interpreter, or else on the PATH.

    Raises:
        RouterError: It is not installed.
    """
    beside = interpreter().with_name("smg")
    if beside.is_file():
        return beside
    found = shutil.which("smg")
    if found:
        return Path(found)
    raise RouterError("No `smg` command: install the project's `serving` extra.")


def router_command(
    urls: tuple[str, ...],
    port: int,
    metrics_port: int,
    *,
    host: str = HOST,
    binary: str | None = None,
) -> tuple[str, ...]:
    """Return the command line of the router that serves `urls` on `port`.

    Args:
        urls: The replicas' addresses.
        port: Where it listens.
        metrics_port: Where Prometheus asks.
        host: The address of both; loopback, or any inside a pod.
        binary: The `smg` command; left out, this machine's.

    Raises:
        RouterError: There is no `smg` here.
    """
    options = {
        "--host": host,
        "--port": str(port),
        "--backend": "vllm",
        "--prometheus-host": host,
        "--prometheus-port": str(metrics_port),
        "--history-backend": "none",
        "--log-level": "warn",
        "--request-timeout-secs": str(REQUEST_TIMEOUT_S),
        "--shutdown-grace-period-secs": "10",
        "--worker-startup-check-interval": "1",
        "--retry-max-retries": "3",
        "--retry-max-backoff-ms": "500",
        "--health-check-interval-secs": "1",
        "--health-check-timeout-secs": "2",
        "--health-failure-threshold": "2",
        "--health-success-threshold": "1",
        "--cb-failure-threshold": "3",
        "--cb-success-threshold": "1",
        "--cb-timeout-duration-secs": "2",
    }
    if len(urls) > 1:  # smg refuses the policy for a single worker
        options |= {"--policy": "power_of_two", "--power-of-two-load-metric": "least_requests"}
    else:
        options["--policy"] = "round_robin"
    flat = [part for pair in options.items() for part in pair]
    argv = [binary or str(smg_binary()), "launch", "--disable-tokenizer-autoload"]
    argv += ["--disable-load-monitoring", *flat, "--worker-urls", *urls]
    return tuple(argv)
