import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.health import free_port, get_json
from serving.home import Home, HomeError
from serving.leash import kill_leftovers
from serving.supervision import Program, Supervisor
from serving.supervisord import SupervisionError

LEASH = Path(__file__).resolve().parents[2] / "serving" / "leash.py"
SERVER = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", ".")
# A parent and a child that outlives it, as vLLM's engine process outlives its API server.
FAMILY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open(sys.argv[1], 'a').write(f'{child.pid}\\n')\n"
    "time.sleep(600)"
)


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(") ")[-1][0] != "Z"
    except OSError:
        return False


def server(port: int, name: str = "server") -> Program:
    return Program(name, (*SERVER, str(port)))


def answers(port: int) -> bool:
    return get_json(f"http://127.0.0.1:{port}/")[0] == 200


def test_a_killed_program_comes_back_by_itself(supervisor: Supervisor) -> None:
    port = free_port()
    supervisor.put(server(port))
    assert within(10, lambda: answers(port))
    first = supervisor.statuses()["server"].pid
    os.kill(first, signal.SIGKILL)
    assert within(10, lambda: supervisor.statuses()["server"].pid not in (0, first))
    assert within(10, lambda: answers(port))


def test_put_leaves_the_same_program_alone_and_replaces_a_changed_one(
    supervisor: Supervisor,
) -> None:
    program = Program("one", ("sleep", "600"), {"A": "1"})
    supervisor.put(program)
    first = supervisor.statuses()["one"].pid
    supervisor.put(program)
    assert supervisor.statuses()["one"].pid == first
    supervisor.put(Program("one", ("sleep", "600"), {"A": "2"}))
    assert within(10, lambda: supervisor.statuses()["one"].pid not in (0, first))
    assert not alive(first)
    environment = Path(f"/proc/{supervisor.statuses()['one'].pid}/environ")
    assert within(10, lambda: b"A=2" in environment.read_bytes().split(b"\0"))


def test_a_removed_program_is_gone_and_can_be_put_again(supervisor: Supervisor) -> None:
    supervisor.put(Program("one", ("sleep", "600")))
    first = supervisor.statuses()["one"].pid
    supervisor.remove("one")
    supervisor.remove("one")
    assert not alive(first)
    assert supervisor.statuses() == {}
    supervisor.put(Program("one", ("sleep", "600")))
    assert supervisor.statuses()["one"].pid not in (0, first)


def test_a_killed_supervisor_takes_its_programs_along_and_the_next_call_restores_them(
    supervisor: Supervisor,
) -> None:
    port = free_port()
    supervisor.put(server(port))
    assert within(10, lambda: answers(port))
    program = supervisor.statuses()["server"].pid
    daemon = int((supervisor.home.run / "supervisord.pid").read_text(encoding="ascii"))
    os.kill(daemon, signal.SIGKILL)
    assert within(5, lambda: not alive(program)), "the program outlived its supervisor"
    assert not supervisor.is_running()
    supervisor.ensure_running()
    assert within(10, lambda: answers(port))
    assert supervisor.statuses()["server"].pid != program


def test_what_a_killed_program_leaves_behind_is_gone_before_it_starts_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    supervisor.put(Program("family", (sys.executable, "-c", FAMILY, str(pids))))
    assert within(10, lambda: pids.is_file() and bool(pids.read_text(encoding="ascii")))
    parent = supervisor.statuses()["family"].pid
    child = int(pids.read_text(encoding="ascii"))
    os.kill(parent, signal.SIGKILL)
    assert within(10, lambda: len(pids.read_text(encoding="ascii").split()) == 2)
    assert not alive(child)


def test_shutdown_leaves_nothing_behind_even_after_a_crash(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    supervisor.put(Program("family", (sys.executable, "-c", FAMILY, str(pids))))
    assert within(10, lambda: pids.is_file() and bool(pids.read_text(encoding="ascii")))
    child = int(pids.read_text(encoding="ascii"))
    daemon = int((supervisor.home.run / "supervisord.pid").read_text(encoding="ascii"))
    os.kill(daemon, signal.SIGKILL)
    assert within(5, lambda: not alive(daemon))
    assert alive(child)
    supervisor.shutdown()
    assert within(5, lambda: not alive(child))
    assert list(supervisor.home.programs.iterdir()) == []


def test_a_supervisor_that_hangs_is_replaced_by_shutdown(supervisor: Supervisor) -> None:
    supervisor.put(Program("one", ("sleep", "600")))
    program = supervisor.statuses()["one"].pid
    daemon = int((supervisor.home.run / "supervisord.pid").read_text(encoding="ascii"))
    os.kill(daemon, signal.SIGSTOP)
    supervisor.shutdown(timeout_s=0.5)
    assert within(5, lambda: not alive(daemon) and not alive(program))


def test_a_home_with_a_long_and_awkward_path(tmp_path: Path) -> None:
    one = Supervisor(tmp_path / ("long " * 20) / "'quoted'")
    try:
        assert len(str(one.home.socket)) < 100
        one.put(Program("one", ("sh", "-c", 'echo "$WHAT"; sleep 600'), {"WHAT": '100% "x", $y'}))
        assert within(10, lambda: '100% "x", $y' in one.log_tail("one"))
    finally:
        one.shutdown(timeout_s=0.5)
    assert not one.home.socket.parent.exists()


def test_a_socket_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    one = Supervisor(tmp_path / ("long " * 20))
    one.home.socket.parent.mkdir(mode=0o755)
    try:
        with pytest.raises(SupervisionError, match="open to other users"):
            one.ensure_running()
    finally:
        one.home.socket.parent.rmdir()


def test_two_processes_that_put_at_once_lose_nothing(supervisor: Supervisor) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from serving.supervision import Program, Supervisor\n"
        "for n in sys.argv[2:]: Supervisor(Path(sys.argv[1])).put(Program(n, ('sleep', '600')))"
    )
    folder = str(supervisor.home.folder)
    started = [
        subprocess.Popen([sys.executable, "-c", code, folder, *names], cwd=LEASH.parents[1])
        for names in (["a", "b", "c"], ["d", "e", "f"])
    ]
    assert [one.wait(60) for one in started] == [0, 0]
    assert sorted(supervisor.statuses()) == ["a", "b", "c", "d", "e", "f"]


def test_a_program_that_cannot_start_says_why_in_its_log(supervisor: Supervisor) -> None:
    supervisor.put(Program("one", ("/nowhere/program",)))
    assert within(10, lambda: "cannot start /nowhere/program" in supervisor.log_tail("one"))
    assert "supervisord started" in supervisor.log_tail("other")


def test_a_bad_name_is_refused_and_does_no_harm(supervisor: Supervisor) -> None:
    supervisor.put(Program("one", ("sleep", "600")))
    with pytest.raises(SupervisionError, match="no program name"):
        supervisor.put(Program("bad:name", ("sleep", "600")))
    supervisor.put(Program("two", ("sleep", "600")))
    assert sorted(supervisor.statuses()) == ["one", "two"]


def test_a_lock_that_is_held_says_so(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    with home.lock("x"), pytest.raises(HomeError, match="Another process"), home.lock("x", 0.1):
        pass


def test_a_home_that_the_supervisor_could_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="choose another"):
        Supervisor(tmp_path / "100%")


def test_the_leash_starts_nothing_without_a_supervisor(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text("{}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LEASH), str(spec)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.returncode == 1
    assert "the supervisor is gone" in done.stderr


@pytest.mark.parametrize("text", ["", "{", '{"boot": "other", "group": 1, "session": 1}'])
def test_a_broken_or_old_group_record_kills_nobody(tmp_path: Path, text: str) -> None:
    record = tmp_path / "one.group"
    record.write_text(text, encoding="utf-8")
    assert kill_leftovers(record) == []
    assert kill_leftovers(tmp_path / "none.group") == []
