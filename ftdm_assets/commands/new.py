"""``ftdm new``: writes ``defs.yaml`` and taxonomy of a domain model for a person's own files.

The files stay where they are: ``defs.yaml`` names them by paths relative to its own folder.
"""

import getpass
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ftdm_assets.commands import output
from ftdm_assets.model_folder import models_folders
from ftdm_assets.provenance.files import write_bytes
from ftdm_assets.settings import SettingsError, parse_settings
from ftdm_assets.sources.files import find_columns, read_records
from golden.examples import read_examples

_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")


@dataclass(frozen=True)
class NewModel:
    """What a person asked for on the command line."""

    name: str
    labels: Path
    golden: Path
    input_column: str | None
    output_column: str | None
    classes: int | None
    sample: int | None
    golden_sample: int | None
    instruction: str
    verified_by: str | None
    folder: Path | None


def new(wanted: NewModel) -> int:
    """Write the folder of a new domain model.

    Raises:
        SettingsError: if the name is taken or cannot be used.
        SourceError: if the labels file cannot be used.
        GoldenError: if the golden file cannot be used.
    """
    target = (wanted.folder or models_folders()[-1]) / wanted.name
    _check_name(wanted.name, target)
    columns = find_columns(
        wanted.labels, input_column=wanted.input_column, output_column=wanted.output_column
    )
    frame = read_records(wanted.labels, columns)
    examples = read_examples(
        wanted.golden, input_column=wanted.input_column, output_column=wanted.output_column
    )
    counts = Counter(str(label).strip() for label in frame["output"] if str(label).strip())
    chosen = sorted(label for label, _ in counts.most_common(wanted.classes))
    golden = sum(example.output in set(chosen) for example in examples)
    # A token holds a byte at least, and the end of turn is one more.
    room = max([16, *(len(label.encode()) + 1 for label in chosen)])
    text = _defs(wanted, target, chosen if wanted.classes else None, golden, room)
    parse_settings(_attributes(text), str(target / "defs.yaml"))
    write_bytes(target / "taxonomy.yaml", _taxonomy(sorted(counts)).encode())
    write_bytes(target / "defs.yaml", text.encode())
    write_bytes(target / "__init__.py", f'"""The domain model `{wanted.name}`."""\n'.encode())
    rows = sum(counts[label] for label in chosen)
    output.say(
        f"{target / 'defs.yaml'}: {len(chosen)} labels, {wanted.sample or rows} labelled texts "
        f"(column {columns.input!r} to {columns.output!r}), "
        f"{min(wanted.golden_sample or golden, golden)} golden examples"
    )
    output.say(f"next: ftdm run {wanted.name}")
    return output.DONE


def _check_name(name: str, target: Path) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be a domain model's name: use small letters, digits and underscores, "
            "a letter first; example: banking"
        )
    if (target / "defs.yaml").exists():
        raise SettingsError(f"{target / 'defs.yaml'} exists; choose another name or edit that file")


def _taxonomy(labels: list[str]) -> str:
    lines = [f"{_quoted(label)}: {_quoted(_described(label))}" for label in labels]
    head = (
        "# label: what a labeller reads, and what the prompted baseline is told; improve the texts"
    )
    return "\n".join([head, *lines]) + "\n"


def _described(label: str) -> str:
    return label.replace("_", " ").replace("-", " ").strip().capitalize() + "."


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _attributes(text: str) -> dict[str, object]:
    import yaml

    attributes: dict[str, object] = yaml.safe_load(text)["attributes"]
    return attributes


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _defs(wanted: NewModel, target: Path, only: list[str] | None, golden: int, room: int) -> str:
    columns = ""
    if wanted.input_column or wanted.output_column:
        given = {"input": wanted.input_column, "output": wanted.output_column}
        columns = "    columns:\n" + "".join(
            f"      {key}: {_quoted(value)}\n" for key, value in given.items() if value
        )
    labels_only = (
        "    labels_only:\n" + "".join(f"      - {_quoted(x)}\n" for x in only) if only else ""
    )
    sample = f"    sample: {wanted.sample}\n" if wanted.sample else ""
    golden_sample = f"    sample: {wanted.golden_sample}\n" if wanted.golden_sample else ""
    vouched = wanted.verified_by or getpass.getuser()
    minimum = min(200, wanted.golden_sample or golden, golden)
    warning = (
        "" if minimum >= 200 else "    # Fewer than 200: the gates can hardly tell models apart.\n"
    )
    return (
        "# Written by `ftdm new`. Keys that are left out have the defaults of\n"
        "# ftdm_assets/settings.py; the shipped model support_tickets shows more of them.\n"
        "type: ftdm_assets.DomainModel\n\n"
        "attributes:\n"
        f"  name: {wanted.name}\n"
        "  task:\n"
        "    kind: classification\n"
        f"    instruction: {_quoted(wanted.instruction)}\n"
        "    taxonomy: taxonomy.yaml\n"
        "    # Room for the longest label, whatever the tokenizer; an answer ends by itself.\n"
        f"    max_new_tokens: {room}\n"
        "  labels:\n"
        "    source: file\n"
        f"    path: {_quoted(_relative(wanted.labels, target))}\n"
        f"{columns}{labels_only}{sample}"
        "  golden:\n"
        f"    path: {_quoted(_relative(wanted.golden, target))}\n"
        f"{columns}{golden_sample}"
        "    # Who vouches that a person has verified the examples that name no verifier.\n"
        f"    verified_by: {_quoted(vouched)}\n"
        f"{warning}"
        f"    minimum: {max(minimum, 1)}\n"
        "  gates:\n"
        "    # The accuracy below which this model would be of no use to you.\n"
        "    target_accuracy: 0.85\n"
    )
