"""``ftdm request-log`` and ``ftdm verify --request-log``: the gateway's log of all answers."""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from ftdm_assets.audit.verify import request_log_heads
from ftdm_assets.commands import output
from ftdm_assets.home import home, store
from ftdm_assets.provenance.access_log import user
from ftdm_assets.provenance.chain_links import Head
from serving import request_log_prune
from serving.request_entry import input_digest, input_secret
from serving.request_log import request_log
from serving.request_log_check import check

_TIME = re.compile(r"\d{4}(-\d{2}(-\d{2}(T\d{2}(:\d{2}(:\d{2}(\.\d{1,6})?)?)?)?)?)?")


def verify(head: str | None, as_json: bool, archives: Sequence[Path] = ()) -> int:
    """Verify the log, and return 1 with every row that is wrong."""
    log = request_log(home())
    kept = [("the head given by --head", _head(head))] if head else []
    report = check(log, [*request_log_heads(store()), *kept], archives)
    if as_json:
        found = asdict(report) | {"path": str(log.path), "head": str(report.head)}
        output.print_json(found | {"entries": report.head.count})
        return output.NO if report.problems else output.DONE
    output.say(f"request log: {report.head.count} entries; head {report.head}")
    for note in report.notes:
        output.say(f"note: {note}")
    for problem in report.problems:
        output.fail(problem)
    if not report.problems:
        output.say("every row is what its digest says, and none is missing")
    return output.NO if report.problems else output.DONE


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--head: {error}") from None


def export(since: str) -> int:
    """Write the entries of requests from a time on, as they lie in the log."""
    _check_time("--since", since)
    for row in request_log(home()).rows(since):
        sys.stdout.buffer.write(row.line + b"\n")
    sys.stdout.flush()
    return output.DONE


def prune(before: str, file: Path, as_json: bool) -> int:
    """Move the entries of before a time into a file."""
    _check_time("--before", before)
    if not before:
        raise typer.BadParameter("--before: write a time in UTC as 2027-01-31")
    if file.exists():
        raise typer.BadParameter(f"--export: {file} exists; name a new file")
    actor = os.environ.get("FTDM_ACTOR", "").strip()
    pruned = request_log_prune.prune(
        home(), before, file, f"{user()} ({actor})" if actor else user()
    )
    if as_json:
        told = None if pruned is None else asdict(pruned) | {"file": str(pruned.file)}
        output.print_json({"pruned": told})
    elif pruned is None:
        output.say(f"the log has no entry of before {before} that may go: nothing was changed")
    else:
        output.say(
            f"entries {pruned.first} to {pruned.last} are in {pruned.file} now "
            f"(sha256 {pruned.sha256}); keep it: `ftdm verify --request-log --archive` asks for it"
        )
    return output.DONE


def _check_time(option: str, text: str) -> None:
    if text and not _TIME.fullmatch(text):
        raise typer.BadParameter(f"{option} {text!r}: write a time in UTC as 2027-01-31T08:30")


def digest(request: Path) -> int:
    """Write the keyed digest of a request's input."""
    try:
        body = json.loads(request.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"{request}: this is no JSON ({error})") from error
    if not isinstance(body, dict):
        raise typer.BadParameter(f"{request}: a request's body is a JSON object")
    output.say(input_digest(input_secret(home()), body))
    return output.DONE
