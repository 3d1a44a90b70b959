"""One written form of a text, and the key by which two texts count as the same.

Invariants:
* ``normalise`` changes nothing that a reader sees, except white space; applying it twice changes
  nothing more.
* Texts with equal keys differ at most in case, punctuation, white space and Unicode form.
"""

import re
import unicodedata

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_BLANKS = re.compile(r"[^\S\n]+")
_NEWLINES = re.compile(r" *\n *")
_MANY_NEWLINES = re.compile(r"\n{3,}")
# Invisible and without meaning; the joiners U+200C and U+200D have one, in emoji and scripts.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# What the general way comes to where all is ASCII, in a tenth of the time.
_ASCII_ENDS = re.compile("\r\n|[\r\v\f]")
_ASCII_CONTROLS = {code: None for code in (*range(32), 127) if chr(code) not in "\n\t"}
_ASCII_PUNCTUATION = {
    code: None for code in range(128) if unicodedata.category(chr(code)).startswith("P")
}


def normalise(text: str) -> str:
    """Return the text in NFC, without control characters, with white space squeezed."""
    text = _visible(text)
    text = _BLANKS.sub(" ", text)
    text = _NEWLINES.sub("\n", text)
    return _MANY_NEWLINES.sub("\n\n", text).strip()


def normalise_output(text: str) -> str:
    """Return an output in NFC without control characters; its inner white space stays."""
    return _visible(text).strip()


def duplicate_key(text: str) -> str:
    """Return what is left when case, punctuation and white space do not count.

    A text of nothing but punctuation keeps it: "?" and "!" are not the same.
    """
    if text.isascii():
        folded = text.casefold()
        return " ".join(folded.translate(_ASCII_PUNCTUATION).split()) or " ".join(folded.split())
    folded = _fold(text)
    bare = "".join(c for c in folded if not unicodedata.category(c).startswith("P"))
    # Folded again, since letters and accents that had punctuation between them may now combine.
    return " ".join(_fold(bare).split()) or " ".join(folded.split())


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _visible(text: str) -> str:
    if text.isascii():
        return (
            text if text.isprintable() else _ASCII_ENDS.sub("\n", text).translate(_ASCII_CONTROLS)
        )
    text = _SURROGATES.sub("\ufffd", text)
    text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return unicodedata.normalize("NFC", text)
