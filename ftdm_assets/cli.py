"""``ftdm``: for people and for scripts.

Nothing heavy is imported before a command needs it: a rollback starts in a fraction of a second.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ftdm_assets.cli_keys import keys_app
from ftdm_assets.cli_request_log import request_log_app
from ftdm_assets.cli_signing import signing_app
from ftdm_assets.commands import output

app = typer.Typer(
    help="Fine-tuned domain models: labels to a served model, with gates on the way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]
Model = Annotated[str, typer.Argument(help="The domain model's name.")]


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has, what is configured, what is missing and how to get it."""
    from ftdm_assets.commands.doctor import doctor as command

    raise typer.Exit(command(as_json))


@app.command()
def new(
    name: Model,
    labels: Annotated[Path, typer.Option(help="Labelled texts: JSONL, CSV or Parquet.")],
    golden: Annotated[Path, typer.Option(help="Human-verified examples, never trained on.")],
    input_column: Annotated[str | None, typer.Option(help="The column with the text.")] = None,
    output_column: Annotated[str | None, typer.Option(help="The column with the label.")] = None,
    classes: Annotated[
        int | None, typer.Option(help="Use the N most frequent labels only.")
    ] = None,
    sample: Annotated[int | None, typer.Option(help="Use this many labelled texts.")] = None,
    golden_sample: Annotated[int | None, typer.Option(help="Use this many examples.")] = None,
    instruction: Annotated[str, typer.Option(help="What the model is told to do.")] = (
        "Sort the text into one category."
    ),
    verified_by: Annotated[str | None, typer.Option(help="Who vouches for the golden set.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where domain models live.")] = None,
) -> None:
    """Write the defs.yaml of a domain model for your own files."""
    from ftdm_assets.commands.new import NewModel
    from ftdm_assets.commands.new import new as command

    wanted = NewModel(
        name, labels, golden, input_column, output_column, classes, sample, golden_sample,
        instruction, verified_by, folder,
    )  # fmt: skip
    raise typer.Exit(command(wanted))


@app.command()
def run(
    model: Model,
    select: Annotated[str | None, typer.Option(help="Only these assets, with commas.")] = None,
    as_json: Json = False,
) -> None:
    """Materialise what is not current, with live progress; end with a table."""
    from ftdm_assets.commands.run import run as command

    raise typer.Exit(command(model, select, as_json))


labels_app = typer.Typer(help="Send texts to Label Studio, to label or to review.")
app.add_typer(labels_app, name="labels", no_args_is_help=True)


@labels_app.command("init")
def labels_init(
    model: Model,
    texts: Annotated[Path, typer.Option(help="Texts: one a line (.txt), JSONL, CSV, Parquet.")],
    as_json: Json = False,
) -> None:
    """Make the labelling project from defs.yaml and add the texts that it does not hold."""
    from ftdm_assets.commands.labels import init as command

    raise typer.Exit(command(model, texts, as_json))


@labels_app.command("review")
def labels_review(
    model: Model,
    below: Annotated[
        float | None,
        typer.Option(help="In doubt: the likeliest label is less sure than this (0-1)."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Send at most this many.")] = 50,
    as_json: Json = False,
) -> None:
    """Send back to the labellers what their votes do not settle, and suspected errors."""
    from ftdm_assets.commands.labels import review as command

    raise typer.Exit(command(model, below, limit, as_json))


dataset_app = typer.Typer(help="Bring the cleaned dataset somewhere else.")
app.add_typer(dataset_app, name="dataset", no_args_is_help=True)


@dataset_app.command("push")
def dataset_push(
    model: Model,
    to: Annotated[str, typer.Option(help="A private dataset repository of the Hub: ORG/NAME.")],
    allowed_data_class: Annotated[
        str, typer.Option(help="No record above this data class is pushed.")
    ] = "internal",
    as_json: Json = False,
) -> None:
    """Push the cleaned dataset with its card to a private Hub repository, and verify it there."""
    from ftdm_assets.commands.dataset import push as command

    raise typer.Exit(command(model, to, allowed_data_class, as_json))


registry_app = typer.Typer(help="Versions in a registry.")
app.add_typer(registry_app, name="registry", no_args_is_help=True)


@registry_app.command("pull")
def registry_pull(
    model: Model,
    to: Annotated[Path, typer.Option(help="A new folder for the merged model.")],
    digest: Annotated[str, typer.Option(help="The merged model's digest, 64 hex digits.")],
    as_json: Json = False,
) -> None:
    """Bring a version from the model's Hub repository, by its digest, and verify it."""
    from ftdm_assets.commands.registry import pull as command

    raise typer.Exit(command(model, digest, to, as_json))


@app.command()
def up(as_json: Json = False) -> None:
    """Start UI, daemon, cache, gateway and replicas; return when all is healthy."""
    from ftdm_assets.commands.stack import up as command

    raise typer.Exit(command(as_json))


@app.command()
def down(as_json: Json = False) -> None:
    """Stop everything that `up` started."""
    from ftdm_assets.commands.stack import down as command

    raise typer.Exit(command(as_json))


@app.command()
def status(as_json: Json = False) -> None:
    """Say what runs, where, and which versions are in production."""
    from ftdm_assets.commands.stack import status as command

    raise typer.Exit(command(as_json))


@app.command()
def trace(
    version: Annotated[str, typer.Argument(help="A version, such as support_tickets-v0001.")],
    as_json: Json = False,
) -> None:
    """Show what a version was made from, with every check, from the manifests alone."""
    from ftdm_assets.commands.trace import trace as command

    raise typer.Exit(command(version, as_json))


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="A version, such as support_tickets-v0001.")],
    scores: Annotated[
        bool, typer.Option("--scores", help="Compare the scores too; else only if digests differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a version's training again from its manifest; compare digests, or else scores."""
    from ftdm_assets.commands.reproduce import reproduce as command

    raise typer.Exit(command(version, scores, as_json))


@app.command()
def review(
    model: Model,
    by: Annotated[str | None, typer.Option(help="Who signs; else FTDM_ACTOR or the user.")] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Show answers of the newest scores instead.")
    ] = False,
    of: Annotated[
        str | None, typer.Option(help="Whose answers: eval_scores or canary_scores.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Write the sample here as JSONL.")] = None,
    filled_in: Annotated[
        Path | None, typer.Option("--import", help="Read a filled-in export back.")
    ] = None,
    accept_all: Annotated[
        bool, typer.Option("--accept-all", help="Accept unseen; needs --by and --reason.")
    ] = False,
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse; needs --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the statement.")] = "",
    as_json: Json = False,
) -> None:
    """Show a person a random sample of the cleaned dataset, or of answers, and sign it off."""
    from ftdm_assets.commands.review import Wanted
    from ftdm_assets.commands.review import review as command

    wanted = Wanted(model, by, export, filled_in, accept_all, refuse, reason, answers, of)
    raise typer.Exit(command(wanted, as_json))


@app.command()
def verify(
    target: Annotated[
        str | None, typer.Argument(help="A version or a domain model; else all models.")
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Only the access record; prints its head.")
    ] = False,
    request_log: Annotated[
        bool, typer.Option("--request-log", help="Only the gateway's request log; prints its head.")
    ] = False,
    head: Annotated[
        str | None, typer.Option(help="A head of that log which was kept elsewhere: COUNT:DIGEST.")
    ] = None,
    archive: Annotated[
        list[Path] | None, typer.Option(help="Rows of the request log that were pruned; again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute every digest anew; check statements, signatures and the access record, offline."""
    if request_log:
        from ftdm_assets.commands.request_log import verify as verify_request_log

        if target or access_log:
            raise typer.BadParameter("--request-log stands alone")
        raise typer.Exit(verify_request_log(head, as_json, archive or ()))
    if archive:
        raise typer.BadParameter("--archive goes with --request-log")
    from ftdm_assets.commands.verify import verify as command

    raise typer.Exit(command(target, access_log, head, as_json))


@app.command()
def override(
    target: Annotated[
        str, typer.Argument(help="A version, or the artifact's digest that the gate names.")
    ],
    check: Annotated[str, typer.Option(help="The check that is passed over: ASSET.CHECK.")],
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why, for every trace.")],
    until: Annotated[str, typer.Option(help="The last day, as 2027-01-31, or a time in UTC.")],
    as_json: Json = False,
) -> None:
    """Let the gate pass over one check of one artifact for a while; signed, shown everywhere."""
    from ftdm_assets.commands.override import Wanted
    from ftdm_assets.commands.override import override as command

    raise typer.Exit(command(Wanted(target, check, by, reason, until), as_json))


app.add_typer(signing_app, name="signing-key", no_args_is_help=True)
app.add_typer(keys_app, name="keys", no_args_is_help=True)
app.add_typer(request_log_app, name="request-log", no_args_is_help=True)


@app.command()
def rollback(
    model: Annotated[str | None, typer.Argument(help="The domain model.")] = None,
    to: Annotated[str | None, typer.Option(help="A version; else the previous one.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "rolled back by hand",
    as_json: Json = False,
) -> None:
    """Put production back to the version kept warm, in seconds; what is not warm is started."""
    from ftdm_assets.commands.rollback import rollback as command

    raise typer.Exit(command(model, to, reason, as_json))


def main() -> None:
    """Run the command line; expected errors are one sentence and an exit code."""
    from ftdm_assets.commands.errors import exit_code

    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        output.fail("stopped; run the command again, it goes on from what was finished")
        sys.exit(130)
    except Exception as error:
        code, message = exit_code(error)
        if code is None:
            raise
        output.fail(message)
        sys.exit(code)
