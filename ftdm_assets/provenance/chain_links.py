"""The links of a hash chain: what a line must be to follow the one before it. Pure functions."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftdm_assets.provenance.digests import canonical_json, json_digest

GENESIS = "0" * 64
MENDED = "mended"
_TORN_SHOWN = 4000


@dataclass(frozen=True)
class Head:
    """How many entries there are, and the digest of the last (zeros before the first)."""

    count: int = 0
    digest: str = GENESIS

    def __str__(self) -> str:
        return f"{self.count}:{self.digest}"

    @staticmethod
    def parse(text: str) -> "Head":
        """Read ``COUNT:DIGEST`` back.

        Raises:
            ValueError: if it is written in another way.
        """
        count, _, digest = text.strip().partition(":")
        if not count.isdecimal() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"{text!r} is no head of a log; write it as COUNT:DIGEST")
        return Head(int(count), digest)


def following(head: Head, content: Mapping[str, Any]) -> tuple[Head, bytes]:
    """Return the head after an entry with this content, and the entry's line, without its end."""
    written, number = canonical_json(dict(content)), head.count + 1
    # The canonical form of the whole, whose keys stand in this order: the content is written once.
    rest = b',"number":%d,"previous":"%s"}' % (number, head.digest.encode())
    after = Head(number, hashlib.sha256(b'{"content":' + written + rest).hexdigest())
    return after, b'{"content":' + written + b',"digest":"%s"' % after.digest.encode() + rest


def link(line: bytes, number: int, previous: str | None) -> tuple[str | None, str]:
    """Return the digest of an entry, and what is wrong with it or nothing."""
    try:
        entry = json.loads(line)
        canonical = canonical_json(entry) == line
        digest = entry.pop("digest")
        right = set(entry) == {"number", "previous", "content"} and json_digest(entry) == digest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, "this is no entry"
    if not canonical or not right:
        return None, "the entry was changed: its content does not have its digest"
    if entry["number"] != number:
        return digest, f"this is entry {entry['number']}; entries are missing, or stand elsewhere"
    if previous is not None and entry["previous"] != previous:
        return digest, "the entry does not follow the one before it"
    return digest, ""


def links(lines: list[bytes]) -> Iterator[tuple[int, str | None, str]]:
    """Yield line number, digest and problem of each line."""
    previous: str | None = GENESIS
    for number, line in enumerate(lines, 1):
        previous, problem = link(line, number, previous)
        yield number, previous, problem


def holds(digests: list[str | None], head: Head) -> bool:
    """Say whether a log with these digests has this head's entry."""
    if head.count == 0:
        return head.digest == GENESIS
    return head.count <= len(digests) and digests[head.count - 1] == head.digest


def told(digests: list[str | None], number: int) -> str:
    """Return in words which digest a log has at an entry."""
    found = digests[number - 1] if 0 < number <= len(digests) else None
    return f"{found[:12]}" if found else "nothing"


def mending(torn: bytes) -> dict[str, Any]:
    """Return the content of the entry that keeps a torn line."""
    return {
        "event": MENDED,
        "bytes": len(torn),
        "sha256": hashlib.sha256(torn).hexdigest(),
        "torn": torn[:_TORN_SHOWN].decode(errors="backslashreplace"),
    }


def mended(lines: list[bytes]) -> Iterator[int]:
    """Yield the numbers of the entries that keep a torn line."""
    for number, line in enumerate(lines, 1):
        if f'"event":"{MENDED}"'.encode() in line:
            yield number
