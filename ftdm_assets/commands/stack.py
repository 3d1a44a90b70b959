"""``ftdm up``, ``down`` and ``status``: everything that runs in the background."""

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from ftdm_assets.commands import output
from ftdm_assets.home import dagster_home, home
from ftdm_assets.model_folder import find_models, load_folder
from ftdm_assets.provenance.trust import TRUST_ENV, trust_folder
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources import label_webhook
from serving import stack
from serving.admission import StoreAdmission
from serving.health import port_is_free
from serving.home import DATABASE_VARIABLE
from serving.stack import StackStatus
from serving.stack_programs import INPUTS_VARIABLE, StackError
from serving.supervision import Program, Supervisor

UI_PORT = 3000
_UI_SECONDS = 120
_PASSED_ON = (
    *("FTDM_MODELS", "FTDM_SERVING_PYTHON"),
    *("FTDM_GATEWAY_PORT", "FTDM_CACHE_PORT", "FTDM_CACHE_URL"),
    *(INPUTS_VARIABLE, DATABASE_VARIABLE),
)
_LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name locationOrLoadError {
  ... on PythonError { message errorChain { error { message } } } } } } } }"""


def ui_port() -> int:
    """Return the port of Dagster's UI: ``FTDM_UI_PORT``, else 3000."""
    return int(os.environ.get("FTDM_UI_PORT") or UI_PORT)


def ui_url() -> str:
    """Return the address of Dagster's UI."""
    return f"http://127.0.0.1:{ui_port()}"


def up(as_json: bool) -> int:
    """Start everything, and wait until it answers."""
    started = time.monotonic()
    folder = home()
    _check_ui_port(folder)
    _close_dead_runs()
    progress = (lambda _: None) if as_json else output.say
    programs = (*dagster_programs(folder), *webhook_programs(folder))
    found = stack.up(folder, programs, admission=StoreAdmission(folder), progress=progress)
    _await_ui(progress)
    found = stack.status(folder, also=code_problems())
    _show(found, as_json)
    if not as_json:
        _show_a_call(found)
        output.say(f"up after {time.monotonic() - started:.0f} s; `ftdm down` stops it")
    return output.DONE if found.healthy else output.UNREACHABLE


def down(as_json: bool) -> int:
    """Stop everything."""
    found = stack.down(home())
    if as_json:
        output.print_json(_document(found))
    else:
        output.say("everything is stopped; `ftdm up` starts it again")
    return output.DONE if not found.running else output.UNREACHABLE


def status(as_json: bool) -> int:
    """Say what runs."""
    found = stack.status(home())
    if found.running:
        found = stack.status(home(), also=code_problems())
    _show(found, as_json)
    return output.DONE if found.healthy else output.UNREACHABLE


def dagster_programs(folder: Path) -> tuple[Program, ...]:
    """Return Dagster's UI and daemon as supervised programs."""
    root = Path(__file__).resolve().parents[2]
    workspace = ("-m", "ftdm_assets.definitions")
    environment = {
        "DAGSTER_HOME": str(dagster_home()),
        "FTDM_HOME": str(folder),
        "PYTHONPATH": str(root),
        "PYTHONUNBUFFERED": "1",
    }
    for name in _PASSED_ON:
        if os.environ.get(name):
            environment[name] = os.environ[name]
    if os.environ.get(TRUST_ENV):
        # In full: these programs run in the home, a relative path was meant from here.
        environment[TRUST_ENV] = str(trust_folder(folder))
    address = ("--host", "127.0.0.1", "--port", str(ui_port()))
    return (
        Program(
            "dagster-ui",
            (sys.executable, "-m", "dagster_webserver", *workspace, *address),
            environment,
            stop_timeout_s=20,
            # A crash of the UI or the daemon must not kill the runs that it launched.
            clears_leftovers=False,
        ),
        Program(
            "dagster-daemon",
            (sys.executable, "-m", "dagster._daemon", "run", *workspace),
            environment,
            stop_timeout_s=20,
            # A crash of the UI or the daemon must not kill the runs that it launched.
            clears_leftovers=False,
        ),
    )


def webhook_programs(folder: Path) -> tuple[Program, ...]:
    """Return the receiver of Label Studio's webhooks, if a domain model wants one.

    Raises:
        SettingsError: if the secret is not set.
    """
    if not any(_wants_webhook(path) for path in find_models().values()):
        return ()
    environment = {
        "FTDM_HOME": str(folder),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        label_webhook.SECRET_ENV: label_webhook.secret(),
    }
    if os.environ.get("FTDM_MODELS"):
        environment["FTDM_MODELS"] = os.environ["FTDM_MODELS"]
    host = os.environ.get("FTDM_WEBHOOK_HOST") or "127.0.0.1"
    port = os.environ.get("FTDM_WEBHOOK_PORT") or str(label_webhook.PORT)
    command = (sys.executable, "-m", "ftdm_assets.sources.label_webhook")
    return (Program("label-webhook", (*command, "--host", host, "--port", port), environment),)


def _wants_webhook(defs: Path) -> bool:
    try:
        return bool(load_folder(defs).settings.labels.label_studio.webhook)
    except SettingsError:
        # Wrong settings keep nobody's version from being served; Dagster's UI shows them.
        return False


def _check_ui_port(folder: Path) -> None:
    running = Supervisor(folder).statuses()
    if "dagster-ui" not in running and not port_is_free("127.0.0.1", ui_port()):
        raise StackError(
            f"Port {ui_port()}, which Dagster's UI needs, is taken by another program: end it, or "
            "set FTDM_UI_PORT to a free port."
        )


def _close_dead_runs() -> None:
    dagster_home()
    import dagster as dg

    from ftdm_assets.graph.dead_runs import close_dead_runs

    with dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)


def _await_ui(progress: Any) -> None:
    deadline = time.monotonic() + _UI_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{ui_url()}/server_info", timeout=2, trust_env=False).is_success:
                progress(f"Dagster's UI answers on {ui_url()}")
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise StackError(
        f"Dagster's UI does not answer on {ui_url()} after {_UI_SECONDS} s; see the end of "
        f"{home() / 'logs' / 'dagster-ui.log'}"
    )


def code_problems() -> tuple[str, ...]:
    """Return a sentence for each code location that Dagster's UI could not load."""
    try:
        answer = httpx.post(
            f"{ui_url()}/graphql", json={"query": _LOCATIONS}, timeout=10, trust_env=False
        )
        entries = answer.raise_for_status().json()["data"]["workspaceOrError"]["locationEntries"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return (f"Dagster's UI on {ui_url()} does not say whether the graph has loaded.",)
    states = [(entry["name"], entry["locationOrLoadError"] or {}) for entry in entries]
    return tuple(
        f"Dagster could not load {name}: {_root_cause(state)}"
        for name, state in states
        if "message" in state
    )


def _root_cause(error: dict[str, Any]) -> str:
    chain = [link["error"] for link in error.get("errorChain") or []]
    return " ".join(str((chain or [error])[-1]["message"]).split())


def _show_a_call(found: StackStatus) -> None:
    for one in found.models[:1]:
        body = {"model": one.model, "messages": [{"role": "user", "content": "TEXT"}]}
        output.say(
            f"curl -s {found.gateway_url}/v1/chat/completions "
            '-H "Authorization: Bearer $(ftdm keys local)" '
            f"-H 'content-type: application/json' -d '{json.dumps(body)}'"
        )


def _document(found: StackStatus) -> dict[str, Any]:
    return {**asdict(found), "healthy": found.healthy, "ui_url": ui_url()}


def _show(found: StackStatus, as_json: bool) -> None:
    if as_json:
        output.print_json(_document(found))
        return
    if not found.running:
        output.say("nothing runs; `ftdm up` starts everything")
        return
    rows = [
        ("Dagster UI", ui_url()),
        ("OpenAI-compatible endpoint", f"{found.gateway_url}/v1"),
        ("result cache", found.cache_url),
    ]
    for one in found.models:
        healthy = f"{one.current_healthy} of {one.replicas} replicas"
        rows.append((f"model {one.model}", f"{one.current} in production, {healthy}"))
        if one.previous:
            rows.append(("", f"{one.previous} kept warm, {one.previous_healthy} replicas"))
    output.table(("what", "where"), rows)
    for problem in found.problems:
        output.fail(problem)
