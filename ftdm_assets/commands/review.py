"""``ftdm review``: a person looks at a random sample of the cleaned dataset and signs it off."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.commands import output
from ftdm_assets.provenance.access_log import Reader, user
from ftdm_assets.provenance.files import jsonl_bytes
from ftdm_assets.records.review import (
    Answered,
    ReviewError,
    answered,
    read_answers,
    tally,
    to_fill_in,
)

_KEYS = {"a": "accept", "w": "wrong_label", "s": "skip"}


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    model: str
    by: str | None
    export: Path | None
    answers: Path | None
    accept_all: bool
    refuse: bool
    reason: str


def review(wanted: Wanted, as_json: bool) -> int:
    """Show, export or read back the sample; return 1 if the dataset is refused."""
    _refuse_odd(wanted)
    from ftdm_assets.graph import sign_off
    from ftdm_assets.graph.build import build_plan
    from ftdm_assets.graph.shell import reading_of
    from ftdm_assets.model_folder import load_model

    model = load_model(wanted.model)
    what = "export" if wanted.export else "import" if wanted.answers else "sign-off"
    reading = reading_of(build_plan(model), Reader(f"ftdm review {wanted.model} ({what})"))
    digest, sample = reading.digest(sign_off.ASSET), sign_off.sample(reading)
    if wanted.export:
        return _export(wanted.export, to_fill_in(digest, sample), as_json)
    answers, how = _answers(wanted, digest, sample, model.labels())
    found = tally([answer.as_dict() for answer in answers])
    accepted = not wanted.refuse and sign_off.acceptable(reading, found)
    if how == "terminal":
        accepted = accepted and _yes(f"{sign_off.told(found)}. Sign the dataset off?")
    made = sign_off.sign(
        reading, answers, by=_person(wanted), how=how, accepted=accepted, reason=wanted.reason
    )
    if as_json:
        output.print_json(made.statement())
    else:
        output.say(
            f"{made.by} {'signed off' if made.accepted else 'refused'} {digest[:12]}: "
            f"{sign_off.told(found)}; {made.maximum_error_share:.1%} are allowed, and half of the "
            f"sample has to be judged. `ftdm run {wanted.model}` takes it in."
        )
    return output.DONE if made.accepted else output.NO


def _refuse_odd(wanted: Wanted) -> None:
    ways = [wanted.export is not None, wanted.answers is not None, wanted.accept_all]
    if sum(ways) > 1:
        raise ReviewError("choose one of --export, --import and --accept-all")
    if wanted.accept_all and wanted.refuse:
        raise ReviewError("choose --accept-all or --refuse")
    if wanted.accept_all and not (wanted.by and wanted.reason.strip()):
        raise ReviewError(
            "--accept-all signs off without a look at the records: give --by NAME and --reason TEXT"
        )
    if wanted.answers is not None and not wanted.by:
        raise ReviewError("--import signs in somebody's name: give --by NAME")
    if wanted.refuse and not wanted.reason.strip():
        raise ReviewError("--refuse needs --reason TEXT")
    if not any(ways) and not sys.stdin.isatty():
        raise ReviewError(
            "there is no terminal to ask at; use --export FILE, fill it in, and --import FILE"
        )


def _answers(
    wanted: Wanted, digest: str, sample: Sequence[dict[str, Any]], labels: Sequence[str]
) -> tuple[list[Answered], str]:
    if wanted.accept_all:
        given = {"answer": "accept", "note": "not looked at"}
        return [answered(row, given, "--accept-all", labels) for row in sample], "accept_all"
    if wanted.answers is None:
        return [_asked(row, n, len(sample), labels) for n, row in enumerate(sample, 1)], "terminal"
    try:
        lines = wanted.answers.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ReviewError(
            f"{wanted.answers}: not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from None
    return read_answers(lines, str(wanted.answers), digest, sample, labels), "import"


def _asked(row: dict[str, Any], number: int, of: int, labels: Sequence[str]) -> Answered:
    output.say(
        f"\n{number} of {of}  {row['record_id']}\n\n{row['input']}\n\nlabel: {row['output']}"
    )
    while True:
        given = _ask("[a]ccept, [w]rong label, [s]kip? ").strip().lower()
        answer = _KEYS.get(given[:1])
        if answer is None:
            continue
        right = ""
        if answer == "wrong_label":
            right = _ask("the right label, or nothing: ").strip()
        try:
            return answered(row, {"answer": answer, "right_label": right}, "answer", labels)
        except ReviewError as error:
            output.fail(str(error))


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise ReviewError(
            "the review was not finished, nothing was signed; start it again"
        ) from None


def _yes(question: str) -> bool:
    return _ask(f"\n{question} [y/n] ").strip().lower() in {"y", "yes"}


def _export(path: Path, rows: Sequence[dict[str, Any]], as_json: bool) -> int:
    try:
        # Training data: for the eyes of the person who exports it.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ReviewError(f"{path} is there already; name another file, or delete it") from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(jsonl_bytes(rows))
    if as_json:
        output.print_json({"file": str(path), "records": len(rows)})
    else:
        output.say(
            f"{len(rows)} records in {path}; set `answer` of each to accept, wrong_label (with "
            "`right_label` where you know it) or skip, then `ftdm review MODEL --import FILE`"
        )
    return output.DONE


def _person(wanted: Wanted) -> str:
    return wanted.by or os.environ.get("FTDM_ACTOR") or user()
