"""Secrets of a home: made once whoever asks, for their owner only, and refused when spoilt."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdm_assets.commands.errors import exit_code
from serving.home import Home
from serving.private_file import SecretError, read_private, secret_at, write_private
from serving.request_entry import input_secret
from serving.seal import home_secret

ASKS = """
import sys
from pathlib import Path
from serving.home import Home
from serving.private_file import secret_at
home = Home.at(Path(sys.argv[1]))
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
sys.stdout.write(secret_at(home.cache_secret, home))
"""


def test_processes_that_ask_at_once_are_told_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKS, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    asking = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for one in asking:
        assert one.stdout.readline() == "ready\n"
    for one in asking:
        one.stdin.write("\n")
        one.stdin.flush()
    told = {one.communicate(timeout=60)[0] for one in asking}
    home = Home.at(tmp_path)
    assert told == {secret_at(home.cache_secret, home)}


@pytest.mark.parametrize(
    ("secret", "path"),
    [
        (home_secret, lambda home: home.cache_secret),
        (input_secret, lambda home: home.input_secret),
    ],
)
def test_both_secrets_of_a_home_are_made_once_and_refused_when_spoilt(
    tmp_path: Path, secret: Callable[[Path], bytes], path: Callable[[Home], Path]
) -> None:
    first, file = secret(tmp_path), path(Home.at(tmp_path))
    assert secret(tmp_path) == first
    assert len(first) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(SecretError, match=f"chmod 600 {file}") as refused:
        secret(tmp_path)
    assert exit_code(refused.value) == (2, str(refused.value))
    file.chmod(0o600)
    for spoilt in ("", "short", "G" * 64):
        file.write_text(spoilt, encoding="ascii")
        with pytest.raises(SecretError, match="delete it"):
            secret(tmp_path)
    file.unlink()
    assert secret(tmp_path) != first


def test_what_an_earlier_life_left_half_written_gives_nobody_a_look(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    write_private(path, "first")
    left = path.with_name("config.partial")
    left.write_text("half", encoding="ascii")
    left.chmod(0o644)
    write_private(path, "second é")
    assert path.read_text(encoding="utf-8") == "second é"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not left.exists()
    assert read_private(tmp_path / "none") == ""
