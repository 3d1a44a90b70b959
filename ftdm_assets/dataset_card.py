"""The dataset card: what a person should know before they use a dataset, and how to verify it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ftdm_assets.provenance.statements import Manifest, SignOff, Verdict

_SOURCES_SHOWN = 10
_VERIFY = """\
import hashlib
import rfc8785
from pyarrow import parquet

rows = parquet.read_table("{file}").to_pylist()
records = [{{k: v for k, v in row.items() if k != "digest"}} for row in rows]
digests = sorted(hashlib.sha256(rfc8785.dumps(record)).digest() for record in records)
level = [hashlib.sha256(b"\\x00" + digest).digest() for digest in digests]
while len(level) > 1:
    pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
    level = [hashlib.sha256(b"\\x01" + p[0] + p[1]).digest() if p[1:] else p[0] for p in pairs]
print(level[0].hex())
"""


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        descriptions: what each label means, by label.
        personal_data: what cleaning did with personal data, by data class.
        verdicts: all verdicts on the dataset, oldest first.
        sign_offs: all sign-offs of the dataset, oldest first.
    """

    model: str
    description: str
    descriptions: Mapping[str, str]
    raw: Manifest
    cleaned: Manifest
    rows: Sequence[Mapping[str, Any]]
    personal_data: Mapping[str, str]
    verdicts: Sequence[Verdict]
    sign_offs: Sequence[SignOff]


def dataset_card(facts: CardFacts, data_file: str) -> str:
    """Return the card as Markdown with YAML front matter."""
    cleaned = facts.cleaned.facts
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts, data_file), sort_keys=False)}---",
        f"# Cleaned dataset of `{facts.model}`",
        facts.description or f"Texts with their outputs, for the domain model `{facts.model}`.",
        *_outputs(facts),
        "## Where the records come from",
        _origin(facts),
        "## What was dropped",
        f"Of {cleaned['raw_rows']} raw records {len(facts.rows)} were kept; the ledger accounts "
        "for each of the others.",
        _table(("reason", "records"), sorted(cleaned["dropped"].items())),
        "## Agreement",
        _agreement(facts.raw.facts),
        "## Personal data",
        _personal(facts),
        "## Checks and sign-off",
        _table(("check", "outcome", "what was found"), _checks(facts.verdicts)),
        _signed(facts.sign_offs),
        "## Verify it",
        "A record's digest is the SHA-256 of its canonical JSON (RFC 8785) without the column "
        "`digest`; the dataset's is the Merkle root (RFC 6962) over the sorted record digests. "
        "With `pip install pyarrow rfc8785`, this prints the digest above:",
        f"```python\n{_VERIFY.format(file=data_file)}```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _outputs(facts: CardFacts) -> list[str]:
    digest = f"The dataset's digest is `{facts.cleaned.digest}`."
    if not facts.descriptions:
        text = "style" in facts.cleaned.config
        form = "a text of the house style" if text else "canonical JSON by a schema"
        return [f"{len(facts.rows)} records, each output {form}. {digest}"]
    counts = _labels(facts)
    table = ((name, n, facts.descriptions.get(name, "")) for name, n in counts.most_common())
    return [
        f"{len(facts.rows)} records, {len(counts)} labels. {digest}",
        "## Labels",
        _table(("label", "records", "meaning"), table),
    ]


def _labels(facts: CardFacts) -> Counter[str]:
    return Counter(str(row["output"]) for row in facts.rows)


def _front_matter(facts: CardFacts, data_file: str) -> dict[str, Any]:
    return {
        "pretty_name": f"Cleaned dataset of {facts.model}",
        "task_categories": ["text-classification"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": data_file}]}
        ],
        "ftdm": {
            "model": facts.model,
            "asset": facts.cleaned.asset,
            "digest": facts.cleaned.digest,
            "manifest": facts.cleaned.manifest_digest(),
            "code_version": facts.cleaned.code_version,
            "records": len(facts.rows),
            "raw_records": facts.cleaned.facts["raw_rows"],
            "raw_digest": facts.raw.digest,
            **({"labels": dict(sorted(_labels(facts).items()))} if facts.descriptions else {}),
            "data_classes": _data_classes(facts),
            "alpha": facts.raw.facts["alpha"],
        },
    }


def _data_classes(facts: CardFacts) -> dict[str, int]:
    return dict(sorted(Counter(str(row["data_class"]) for row in facts.rows).items()))


def _origin(facts: CardFacts) -> str:
    sources = Counter(str(row["source"]) for row in facts.rows)
    told = f"{len(sources)} different ones"
    if len(sources) <= _SOURCES_SHOWN:
        told = ", ".join(f"`{name}` ({n})" for name, n in sources.most_common())
    classes = ", ".join(f"{name} {n}" for name, n in _data_classes(facts).items())
    annotators = len(facts.raw.facts["annotators"])
    return (
        f"Read from {facts.raw.facts['source']}. Sources of the records: {told}. Data classes: "
        f"{classes}. Annotators of the raw labels: {annotators}; the columns `annotator` and "
        "`actor` name those of each record."
    )


def _agreement(raw: Mapping[str, Any]) -> str:
    if raw["alpha"] is None:
        return "No text was labelled by two annotators, so agreement was not measured."
    return (
        f"Krippendorff's alpha of the raw labels is {raw['alpha']:.3f}, over "
        f"{raw['items_with_several_annotators']} texts with several annotators."
    )


def _personal(facts: CardFacts) -> str:
    ways = ", ".join(f"{name}: {way}" for name, way in facts.personal_data.items())
    return (
        f"What the finder of personal data knows was handled by data class ({ways}); "
        f"{facts.cleaned.facts['masked']} records were masked. A name in free text may be left."
    )


def _checks(verdicts: Iterable[Verdict]) -> list[tuple[str, str, str]]:
    latest = {verdict.check: verdict for verdict in verdicts}
    return [
        (name, "passed" if one.passed else f"failed ({one.severity})", one.reason)
        for name, one in sorted(latest.items())
    ]


def _signed(sign_offs: Sequence[SignOff]) -> str:
    if not sign_offs:
        return "No person has signed this dataset off."
    last = sign_offs[-1]
    return (
        f"{last.by} {'signed it off' if last.accepted else 'refused it'} on "
        f"{last.signed_at[:10]}, after a look at {last.judged} of {last.size} records drawn at "
        f"random ({last.how}): {last.errors} were wrong."
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [[_cell(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    return "\n".join(
        f"| {' | '.join(line)} |" for line in [list(headings), ["---"] * len(headings), *lines]
    )


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
