"""``ftdm review``: a person looks at a random sample of records or answers, and signs it off."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdm_assets.commands import output
from ftdm_assets.provenance.access_log import Reader, user
from ftdm_assets.provenance.files import jsonl_bytes
from ftdm_assets.records.review import (
    SKIP,
    Answered,
    Form,
    ReviewError,
    answered,
    read_answers,
    tally,
    to_fill_in,
)

if TYPE_CHECKING:
    from ftdm_assets.graph.plan import Reading
    from ftdm_assets.graph.sign_off import Subject


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; ``of`` names the scores, None the newest ones."""

    model: str
    by: str | None
    export: Path | None
    filled_in: Path | None
    accept_all: bool
    refuse: bool
    reason: str
    answers: bool = False
    of: str | None = None


def review(wanted: Wanted, as_json: bool) -> int:
    """Show, export or read back the sample; return 1 if it is refused."""
    _refuse_odd(wanted)
    from ftdm_assets.graph import sign_off
    from ftdm_assets.graph.build import build_plan
    from ftdm_assets.graph.shell import reading_of
    from ftdm_assets.model_folder import load_model

    model = load_model(wanted.model)
    what = "export" if wanted.export else "import" if wanted.filled_in else "sign-off"
    reading = reading_of(build_plan(model), Reader(f"ftdm review {wanted.model} ({what})"))
    subject = _subject(wanted, reading)
    digest, sample, form = reading.digest(subject.asset), subject.sample(reading), subject.form
    if wanted.export:
        return _export(wanted, to_fill_in(digest, sample, form), subject, as_json)
    answers, how = _answers(wanted, digest, sample, model.labels(), form)
    found = tally([answer.as_dict() for answer in answers])
    accepted = not wanted.refuse and subject.acceptable(reading, found)
    if how == "terminal":
        accepted = accepted and _yes(f"{subject.told(found)}. Sign these {form.noun} off?")
    made = sign_off.sign(
        reading,
        subject,
        answers,
        by=_person(wanted),
        how=how,
        accepted=accepted,
        reason=wanted.reason,
    )
    if as_json:
        output.print_json(made.statement())
    else:
        output.say(
            f"{made.by} {'signed off' if made.accepted else 'refused'} {subject.asset} "
            f"{digest[:12]}: {subject.told(found)}; {made.maximum_error_share:.1%} are allowed, "
            f"and half of the sample has to be judged. `ftdm run {wanted.model}` takes it in."
        )
    return output.DONE if made.accepted else output.NO


def _subject(wanted: Wanted, reading: "Reading") -> "Subject":
    from ftdm_assets.graph.answer_review import subject_of
    from ftdm_assets.graph.sign_off import DATASET

    if not wanted.answers:
        return DATASET
    subject = subject_of(reading, wanted.of)
    output.console(error=True).print(f"answers of {subject.asset}")
    return subject


def _refuse_odd(wanted: Wanted) -> None:
    ways = [wanted.export is not None, wanted.filled_in is not None, wanted.accept_all]
    if wanted.of is not None and not wanted.answers:
        raise ReviewError("--of chooses among scores: give --answers too")
    if sum(ways) > 1:
        raise ReviewError("choose one of --export, --import and --accept-all")
    if wanted.accept_all and wanted.refuse:
        raise ReviewError("choose --accept-all or --refuse")
    if wanted.accept_all and not (wanted.by and wanted.reason.strip()):
        raise ReviewError("--accept-all signs off without a look: give --by NAME and --reason TEXT")
    if wanted.filled_in is not None and not wanted.by:
        raise ReviewError("--import signs in somebody's name: give --by NAME")
    if wanted.refuse and not wanted.reason.strip():
        raise ReviewError("--refuse needs --reason TEXT")
    if not any(ways) and not sys.stdin.isatty():
        raise ReviewError(
            "there is no terminal to ask at; use --export FILE, fill it in, and --import FILE"
        )


def _answers(
    wanted: Wanted,
    digest: str,
    sample: Sequence[dict[str, Any]],
    labels: Sequence[str],
    form: Form,
) -> tuple[list[Answered], str]:
    if wanted.accept_all:
        given = {"answer": form.good, "note": "not looked at"}
        return [answered(row, given, "--accept-all", labels, form) for row in sample], "accept_all"
    if wanted.filled_in is None:
        numbered = [(row, f"{n} of {len(sample)}") for n, row in enumerate(sample, 1)]
        return [_asked(row, place, labels, form) for row, place in numbered], "terminal"
    try:
        lines = wanted.filled_in.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ReviewError(
            f"{wanted.filled_in}: not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from None
    return read_answers(lines, str(wanted.filled_in), digest, sample, labels, form), "import"


def _shown(row: dict[str, Any], place: str, form: Form) -> str:
    columns = "\n".join(
        f"{name}: {'(nothing)' if row[name] is None else row[name]}" for name in form.shown
    )
    return f"\n{place}  {row['record_id']}\n\n{row['input']}\n\n{columns}"


def _asked(row: dict[str, Any], place: str, labels: Sequence[str], form: Form) -> Answered:
    output.say(_shown(row, place, form))
    keys = {word[0]: word for word in form.words}
    told = ", ".join(f"[{word[0]}]{word[1:].replace('_', ' ')}" for word in form.words)
    while True:
        answer = keys.get(_ask(f"{told}? ").strip().lower()[:1])
        if answer is None:
            continue
        given = {"answer": answer}
        if answer == form.bad and form.corrected:
            given["right_label"] = _ask("the right label, or nothing: ").strip()
        elif answer == form.bad:
            given["note"] = _ask("what is wrong, or nothing: ").strip()
        try:
            return answered(row, given, "answer", labels, form)
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


def _export(
    wanted: Wanted, rows: Sequence[dict[str, Any]], subject: "Subject", as_json: bool
) -> int:
    path, form = Path(str(wanted.export)), subject.form
    try:
        # Data of the model: for the eyes of the person who exports it.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ReviewError(f"{path} is there already; name another file, or delete it") from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(jsonl_bytes(rows))
    if as_json:
        output.print_json({"file": str(path), "records": len(rows)})
    else:
        correction = " (with `right_label` where you know it)" if form.corrected else ""
        output.say(
            f"{len(rows)} {form.noun} in {path}; set `answer` of each to {form.good}, {form.bad}"
            f"{correction} or {SKIP}, then `{subject.command(wanted.model)} --import FILE`"
        )
    return output.DONE


def _person(wanted: Wanted) -> str:
    return wanted.by or os.environ.get("FTDM_ACTOR") or user()
