"""JSON answers: read strictly, written canonically (RFC 8785), taken apart into fields.

Invariants:
* Two texts of one value have one canonical form: key order, white space, 1 and 1.0 never matter.
* A text with a key twice, NaN, a number that JSON cannot carry, or endless nesting is no JSON here.
* What says "nothing" (null, an empty list, an empty object) is no field.
* Items of two lists are paired so that most fields agree: their order is the exact match's concern.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import numpy as np
import rfc8785

_DEEPEST = 40
WHOLE = "(value)"


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        value = json.loads(
            text, parse_constant=refuse_constant, object_pairs_hook=object_without_repeats
        )
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not _is_shallow(value):
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    canonical_text(value)
    return value


def canonical_text(value: Any) -> str:
    """Return the one canonical text of a JSON value.

    Raises:
        ValueError: if JSON cannot carry it from one program to another.
    """
    try:
        return rfc8785.dumps(value).decode()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ValueError(f"cannot be written as JSON ({error})") from None


def field_counts(value: Any) -> Counter[str]:
    """Return how many values each field holds; an item of a list has the name ``list[]``."""
    return Counter(name for name, _ in _leaves(value, ""))


def field_hits(expected: Any, predicted: Any) -> Counter[str]:
    """Return how many values of each field agree."""
    return _hits(expected, predicted, "")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, _below(name, key))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, f"{name}[]")
    elif value is not None:
        yield name or WHOLE, value


def _hits(expected: Any, predicted: Any, name: str) -> Counter[str]:
    if isinstance(expected, dict) and isinstance(predicted, dict):
        shared = (key for key in expected if key in predicted)
        return _sum(_hits(expected[key], predicted[key], _below(name, key)) for key in shared)
    if isinstance(expected, list) and isinstance(predicted, list):
        return _paired(expected, predicted, f"{name}[]")
    if isinstance(expected, dict | list) or isinstance(predicted, dict | list):
        return Counter()
    same = expected is not None and _same(expected, predicted)
    return Counter({name or WHOLE: 1}) if same else Counter()


def _paired(expected: list[Any], predicted: list[Any], name: str) -> Counter[str]:
    from scipy.optimize import linear_sum_assignment  # Slow to load, and settings need none.

    table = [[_hits(one, other, name) for other in predicted] for one in expected]
    gain = np.array([[cell.total() for cell in row] for row in table]).reshape(
        len(expected), len(predicted)
    )
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return _sum(table[row][column] for row, column in zip(rows, columns, strict=True))


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _same(expected: Any, predicted: Any) -> bool:
    # True is 1 in Python, in JSON it is not.
    return isinstance(expected, bool) == isinstance(predicted, bool) and expected == predicted


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return True
    return False


def object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, as json's ``object_pairs_hook``.

    Raises:
        ValueError: if a key stands in it twice.
    """
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return made


def refuse_constant(name: str) -> NoReturn:
    """Refuse what only Python calls JSON (NaN, Infinity), as json's ``parse_constant``.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is not JSON")
