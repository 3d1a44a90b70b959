"""The chain: any changed, dropped, swapped or inserted entry is found; crashes are mended aloud."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdm_assets.provenance.chain_links import Head, following, link
from ftdm_assets.provenance.digests import canonical_json, json_digest
from ftdm_assets.provenance.hash_chain import ChainError, HashChain


def chain_of(folder: Path, entries: int = 5) -> HashChain:
    chain = HashChain(folder / "log" / "access.jsonl")
    for number in range(entries):
        chain.append({"event": "read", "what": f"thing {number}"})
    return chain


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Return the log and the head file of a chain of seven entries."""
    chain = chain_of(tmp_path_factory.mktemp("written"), 7)
    assert chain.check().problems == ()
    return chain.path.read_bytes(), chain.head_path.read_bytes()


def forged(folder: Path, log: bytes, head: bytes) -> HashChain:
    chain = HashChain(folder / "access.jsonl")
    chain.path.write_bytes(log)
    chain.head_path.write_bytes(head)
    return chain


def test_entries_come_back_in_order_and_the_head_counts_them(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    assert [entry["content"]["what"] for entry in chain.entries()] == [
        f"thing {number}" for number in range(5)
    ]
    report = chain.check()
    assert (report.problems, report.notes, report.mended) == ((), (), ())
    assert report.head == chain.head()
    assert Head.parse(str(report.head)) == report.head


def test_several_entries_are_appended_at_once(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, 1)
    assert chain.append({"a": 1}, {"b": 2}).count == 3
    assert chain.check().problems == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)  # fmt: skip


@given(st.integers(0, 2**40), st.dictionaries(st.text(st.characters(codec="utf-8")), JSON))
def test_a_line_is_the_canonical_form_of_its_entry(count: int, content: dict[str, object]) -> None:
    before = Head(count, hashlib.sha256(b"%d" % count).hexdigest())
    after, line = following(before, content)
    body = {"content": content, "number": count + 1, "previous": before.digest}
    assert after == Head(count + 1, json_digest(body))
    assert line == canonical_json(body | {"digest": after.digest})
    assert link(line, count + 1, before.digest) == (after.digest, "")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, written: tuple[bytes, bytes], data: st.DataObject
) -> None:
    log = bytearray(written[0])
    log[data.draw(st.integers(0, len(log) - 1))] ^= data.draw(st.integers(1, 255))
    chain = forged(tmp_path_factory.mktemp("changed"), bytes(log), written[1])
    assert chain.check().problems


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_dropped_swapped_or_inserted_line_is_found(
    tmp_path_factory: pytest.TempPathFactory, written: tuple[bytes, bytes], data: st.DataObject
) -> None:
    before = written[0].splitlines(keepends=True)
    lines = list(before)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(lines) - 1, 0)))
        change = data.draw(st.sampled_from(["drop", "swap", "insert"]))
        if change == "insert" or not lines:
            new = data.draw(st.sampled_from([*before, b"{}\n", b"\n", b"[]\n", b"null\n"]))
            lines.insert(place, new)
        elif change == "drop":
            del lines[place]
        else:
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
    chain = forged(tmp_path_factory.mktemp("moved"), b"".join(lines), written[1])
    assert bool(chain.check().problems) == (lines != before)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 10_000))
def test_a_cut_end_is_found_and_takes_no_entry(
    tmp_path_factory: pytest.TempPathFactory, written: tuple[bytes, bytes], cut: int
) -> None:
    log = written[0][: -min(cut, len(written[0]))]
    chain = forged(tmp_path_factory.mktemp("cut"), log, written[1])
    assert any("cut off" in problem for problem in chain.check().problems)
    with pytest.raises(ChainError, match="shorter than its head says"):
        chain.append({"event": "read"})
    assert chain.path.read_bytes() == log


def test_a_missing_log_or_head_takes_no_entry(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    head = chain.head_path.read_bytes()
    chain.head_path.unlink()
    with pytest.raises(ChainError, match="is missing"):
        chain.append({"event": "read"})
    assert chain.check().problems
    chain.head_path.write_bytes(head)
    chain.path.unlink()
    with pytest.raises(ChainError, match="shorter"):
        chain.append({"event": "read"})
    assert chain.check().problems


def test_a_damaged_head_is_named(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    chain.head_path.write_text("nonsense")
    assert "this is no head of a log" in chain.check().problems[0]
    with pytest.raises(ChainError, match="this is no head of a log"):
        chain.append({"event": "read"})


def test_a_line_put_in_behind_the_head_takes_no_entry(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    first = chain.path.read_bytes().splitlines(keepends=True)[0]
    with chain.path.open("ab") as stream:
        stream.write(first)
    with pytest.raises(ChainError, match="line 6: this is entry 1"):
        chain.append({"event": "read"})


def test_a_torn_last_line_is_mended_aloud(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    torn = b'{"content":{"event":"re'
    with chain.path.open("ab") as stream:
        stream.write(torn)
    report = chain.check()
    assert report.problems == ()
    assert f"torn line of {len(torn)} bytes" in report.notes[0]
    assert chain.append({"event": "read", "what": "next"}).count == 7
    entries = [entry["content"] for entry in chain.entries()]
    assert entries[5] == {
        "event": "mended",
        "bytes": len(torn),
        "sha256": hashlib.sha256(torn).hexdigest(),
        "torn": torn.decode(),
    }
    assert entries[6]["what"] == "next"
    report = chain.check()
    assert (report.problems, report.notes, report.mended) == ((), (), (6,))


def test_a_whole_line_whose_head_was_not_written_counts(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    head = chain.head_path.read_bytes()
    chain.append({"event": "read", "what": "sixth"})
    chain.head_path.write_bytes(head)
    assert chain.check().problems == ()
    assert chain.append({"event": "read"}).count == 7
    assert chain.check().problems == ()


def test_a_log_written_anew_is_found_by_a_head_that_was_kept(tmp_path: Path) -> None:
    kept = chain_of(tmp_path / "true").head()
    anew = chain_of(tmp_path / "anew", 4)
    anew.append({"event": "read", "what": "something harmless"})
    assert anew.check().problems == ()
    found = anew.check([("the auditor's note", kept)]).problems
    assert len(found) == 1
    assert "the auditor's note names entry 5" in found[0]
    assert chain_of(tmp_path / "same").check([("note", kept)]).problems == ()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    with pytest.raises(ChainError, match="no entry can be written"):
        HashChain(tmp_path / "log" / "access.jsonl").append({"event": "read"})


WRITER = """
import sys
from pathlib import Path
from ftdm_assets.provenance.hash_chain import HashChain
chain = HashChain(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    chain.append({"event": "read", "writer": sys.argv[2], "n": number})
"""


def writers(path: Path, count: int, entries: int) -> list["subprocess.Popen[bytes]"]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number), str(entries)],
            stdout=subprocess.PIPE, env={**os.environ},
        )
        for number in range(count)
    ]  # fmt: skip


def test_processes_append_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "log" / "access.jsonl"
    started = writers(path, 4, 40)
    for process in started:
        process.communicate(timeout=60)
        assert process.returncode == 0
    chain = HashChain(path)
    report = chain.check()
    assert report.problems == ()
    assert report.head.count == 160
    contents = [entry["content"] for entry in chain.entries()]
    for writer in range(4):
        mine = [entry["n"] for entry in contents if entry["writer"] == str(writer)]
        assert mine == list(range(40))


def test_writers_killed_at_any_moment_leave_a_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "log" / "access.jsonl"
    for seconds in (0.03, 0.1):
        started = writers(path, 2, 10_000)
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(seconds)
        for process in started:
            process.send_signal(signal.SIGKILL)
        for process in started:
            process.communicate()
        chain = HashChain(path)
        assert chain.check().problems == ()
        chain.append({"event": "read", "writer": "after", "n": 0})
        assert chain.check().problems == ()
        assert json.loads(path.read_bytes().splitlines()[-1])["content"]["writer"] == "after"
