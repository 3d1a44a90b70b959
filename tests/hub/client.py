"""Lets the real Hub client and `datasets` of this process speak to a local Hub."""

import time
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from huggingface_hub import constants

from tests.hub.repos import Hub
from tests.hub.server import TOKEN


def point_to(monkeypatch: pytest.MonkeyPatch, made: Hub, cache: Path) -> None:
    """Set what `HF_ENDPOINT`, `HF_TOKEN` and so on set in a new process; waits are not waited."""
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    unhurried = SimpleNamespace(sleep=lambda _: None, time=time.time, monotonic=time.monotonic)
    for module in (
        "huggingface_hub.utils._http",
        "huggingface_hub.file_download",
        "ftdm_assets.hub",
    ):
        monkeypatch.setattr(f"{module}.time", unhurried)
