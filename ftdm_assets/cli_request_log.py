"""``ftdm request-log``: its arguments; what it does is in ``commands/request_log.py``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

request_log_app = typer.Typer(help="Who asked the gateway for what: the request log.")


class Format(StrEnum):
    """How the log is written out."""

    jsonl = "jsonl"


@request_log_app.command("export")
def request_log_export(
    since: Annotated[
        str, typer.Option(help="Requests from this time on, in UTC: 2027-01-31T08, or less of it.")
    ] = "",
    format_: Annotated[
        Format, typer.Option("--format", help="One entry a line, with its place in the chain.")
    ] = Format.jsonl,
) -> None:
    """Write the entries to standard output, for a SIEM."""
    from ftdm_assets.commands.request_log import export as command

    raise typer.Exit(command(since))


@request_log_app.command("prune")
def request_log_prune(
    before: Annotated[
        str, typer.Option(help="Requests of before this time, in UTC: 2027-01-31, or more of it.")
    ],
    export: Annotated[Path, typer.Option(help="A new file that the rows are moved to; keep it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document.")] = False,
) -> None:
    """Move old entries into a file; the log keeps who did it, which, and the file's SHA-256."""
    from ftdm_assets.commands.request_log import prune as command

    raise typer.Exit(command(before, export, as_json))


@request_log_app.command("digest")
def request_log_digest(
    request: Annotated[Path, typer.Argument(help="A request's body, as JSON.")],
) -> None:
    """Write the digest that the log gives this input, to look for it there."""
    from ftdm_assets.commands.request_log import digest as command

    raise typer.Exit(command(request))
