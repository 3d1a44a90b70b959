"""``ftdm signing-key``: its arguments; what it does is in ``commands/signing_key.py``."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]

signing_app = typer.Typer(help="The key that signs versions here, and the keys that count.")


@signing_app.command("new")
def signing_key_new(as_json: Json = False) -> None:
    """Make a new key of this home and trust it."""
    from ftdm_assets.commands.signing_key import new as command

    raise typer.Exit(command(as_json))


@signing_app.command("list")
def signing_key_list(as_json: Json = False) -> None:
    """List the keys that count, and those that were revoked."""
    from ftdm_assets.commands.signing_key import list_keys as command

    raise typer.Exit(command(as_json))


@signing_app.command("trust")
def signing_key_trust(
    source: Annotated[
        str, typer.Argument(help="A public key's PEM file, or file:PATH, env:NAME, kms:KEY.")
    ],
    as_json: Json = False,
) -> None:
    """Let another key's signatures count."""
    from ftdm_assets.commands.signing_key import trust_source as command

    raise typer.Exit(command(source, as_json))


@signing_app.command("revoke")
def signing_key_revoke(
    key: Annotated[str, typer.Argument(help="The key's id, or its beginning.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever meets its signatures.")],
    as_json: Json = False,
) -> None:
    """Let a key count no more, for anything that it ever signed."""
    from ftdm_assets.commands.signing_key import revoke as command

    raise typer.Exit(command(key, reason, as_json))
