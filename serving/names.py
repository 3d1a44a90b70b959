"""Names: of versions, of what an engine is told to serve, and of what a caller may ask for.

One word for one thing: a version is `NAME-vNNNN` (`support_tickets-v0007`), its short form is
`v0007`. An engine serves `NAME@v0007-<12 hex of the digest>`, a name per digest, so that nothing
cached under one name can ever answer for other weights. A caller asks for `NAME` (production),
`NAME@v0007` (exactly that version) or `NAME@previous` (the one kept warm).
"""

import re
from dataclasses import dataclass

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHORT = re.compile(r"v[0-9]{4,9}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
PREVIOUS = "previous"


class InvalidNameError(ValueError):
    """A name that breaks the rules; the message shows the right form."""


@dataclass(frozen=True)
class Asked:
    """What a caller asked for: a model and a version, `previous`, or None for production."""

    model: str
    version: str | None


def check_model(model: str) -> str:
    """Return the model's name as it is.

    Raises:
        InvalidNameError: It could not be a model's name.
    """
    if _MODEL.fullmatch(model):
        return model
    raise InvalidNameError(
        f"{model!r} is no model name: letters, digits, `.`, `_`, `-`, 64 at most."
    )


def check_digest(digest: str) -> str:
    """Return the digest as it is.

    Raises:
        InvalidNameError: It is no sha256 in lower-case hex.
    """
    if _DIGEST.fullmatch(digest):
        return digest
    raise InvalidNameError(
        f"{digest!r} is no digest: 64 lower-case hexadecimal digits are expected."
    )


def full_version(model: str, version: str) -> str:
    """Return `NAME-vNNNN` from that or from its short form `vNNNN`.

    Raises:
        InvalidNameError: It is neither, or names another model.
    """
    short = version.removeprefix(f"{check_model(model)}-")
    if _SHORT.fullmatch(short):
        return f"{model}-{short}"
    raise InvalidNameError(
        f"{version!r} is no version of {model}: write `{model}-v0001` or `v0001`."
    )


def short_version(model: str, version: str) -> str:
    """Return `vNNNN` from a version in either form."""
    return full_version(model, version).removeprefix(f"{model}-")


def served_name(model: str, version: str, digest: str) -> str:
    """Return the name that an engine is told to serve this version under."""
    return f"{model}@{short_version(model, version)}-{check_digest(digest)[:12]}"


def parse_asked(name: str) -> Asked:
    """Read the `model` field of a request.

    Raises:
        InvalidNameError: It has none of the three forms.
    """
    model, at, which = name.partition("@")
    check_model(model)
    if not at:
        return Asked(model, None)
    return Asked(model, which if which == PREVIOUS else full_version(model, which))


def is_asked(name: str) -> bool:
    """Say whether the `model` field of a request has one of the three forms."""
    try:
        parse_asked(name)
    except InvalidNameError:
        return False
    return True
