"""``ftdm keys``: its arguments; what it does is in ``commands/keys.py``."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `ftdm keys list` shows it.")]

keys_app = typer.Typer(help="The API keys of the gateway.")


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Who has it: a person or a program.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="May ask for this domain model (again for more); else all."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Valid for this many days.")] = 90,
    per_minute: Annotated[
        int, typer.Option("--per-minute", min=0, help="Requests a minute; 0: no limit.")
    ] = 600,
    admin: Annotated[
        bool, typer.Option("--admin", help="May move production, given as FTDM_API_KEY.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a key; its text is shown once and kept nowhere."""
    from ftdm_assets.commands.keys import new as command
    from serving.api_keys import ANY_MODEL, Grant

    grant = Grant(name, tuple(model or [ANY_MODEL]), admin, per_minute or None, days)
    raise typer.Exit(command(grant, as_json))


@keys_app.command("list")
def keys_list(as_json: Json = False) -> None:
    """List every key that was ever made: who has it, what it may, whether it counts."""
    from ftdm_assets.commands.keys import list_keys as command

    raise typer.Exit(command(as_json))


@keys_app.command("rotate")
def keys_rotate(
    key_id: KeyId,
    overlap: Annotated[
        int, typer.Option(min=0, help="The old key counts for this many more minutes.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Make another key that may the same for as long, and end the old one."""
    from ftdm_assets.commands.keys import rotate as command

    raise typer.Exit(command(key_id, overlap, as_json))


@keys_app.command("revoke")
def keys_revoke(key_id: KeyId, as_json: Json = False) -> None:
    """Let a key count no more, from the next request on."""
    from ftdm_assets.commands.keys import revoke as command

    raise typer.Exit(command(key_id, as_json))


@keys_app.command("local")
def keys_local() -> None:
    """Write the key for this machine's own use: -H "Authorization: Bearer $(ftdm keys local)"."""
    from ftdm_assets.commands.keys import local as command

    raise typer.Exit(command())
