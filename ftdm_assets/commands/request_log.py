"""``ftdm request-log`` and ``ftdm verify --request-log``: the gateway's log of all answers."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import typer

from ftdm_assets.commands import output
from ftdm_assets.home import home
from ftdm_assets.provenance.chain_links import Head
from serving.request_entry import input_digest, input_secret
from serving.request_log import request_log
from serving.request_log_check import check

_TIME = re.compile(r"\d{4}(-\d{2}(-\d{2}(T\d{2}(:\d{2}(:\d{2}(\.\d{1,6})?)?)?)?)?)?")


def verify(head: str | None, as_json: bool) -> int:
    """Verify the log, and return 1 with every row that is wrong."""
    log = request_log(home())
    report = check(log, [("the head given by --head", _head(head))] if head else [])
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
    if since and not _TIME.fullmatch(since):
        raise typer.BadParameter(f"--since {since!r}: write a time in UTC as 2027-01-31T08:30")
    for row in request_log(home()).rows(since):
        sys.stdout.buffer.write(row.line + b"\n")
    sys.stdout.flush()
    return output.DONE


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
