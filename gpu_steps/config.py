"""Reads a step's JSON configuration into a frozen dataclass.

Invariant: a step starts only with a configuration that is wholly understood: an unknown key, a
missing key or a value of the wrong type is one sentence that names the file and the key.
Keys with a default in the dataclass may be left out.
"""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration or the input that it names is wrong; the message says what to change."""


class StepError(Exception):
    """The step failed for a reason that its message explains in one sentence."""


def read_config(path: Path, kind: type[T]) -> T:
    """Read the JSON file at `path` as an instance of the dataclass `kind`.

    Raises:
        ConfigError: the file is absent, no JSON object, or does not fit `kind`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give --config an existing JSON file."
        raise ConfigError(msg) from error
    except ValueError as error:
        msg = f"{path}: is not valid JSON ({error}); correct the file."
        raise ConfigError(msg) from error
    return parse(content, kind, str(path))


def parse(content: object, kind: type[T], where: str) -> T:
    """Turn a JSON object into the dataclass `kind`; `where` names its place in messages.

    Raises:
        ConfigError: naming the key that is unknown, missing or of the wrong type.
    """
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: must be a JSON object, not {type(content).__name__}.")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(content) - set(fields))
    if unknown:
        known = ", ".join(fields)
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; the keys are {known}.")
    missing = [name for name, field in fields.items() if name not in content and _required(field)]
    if missing:
        raise ConfigError(f"{where}: the key {missing[0]!r} is missing; add it.")
    values = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in content.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _required(field: "dataclasses.Field[Any]") -> bool:
    no_default = field.default is dataclasses.MISSING
    return no_default and field.default_factory is dataclasses.MISSING


def _convert(value: object, hint: Any, where: str) -> object:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _convert_union(value, typing.get_args(hint), where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return parse(value, hint, where)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, not {value!r}.")
        return tuple(_convert(one, item, f"{where}[{at}]") for at, one in enumerate(value))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be an object, not {value!r}.")
        item = typing.get_args(hint)[1]
        return {key: _convert(one, item, f"{where}.{key}") for key, one in value.items()}
    return _convert_plain(value, hint, where)


def _convert_union(value: object, options: tuple[Any, ...], where: str) -> object:
    if value is None and type(None) in options:
        return None
    kinds = [option for option in options if option is not type(None)]
    for option in kinds[:-1]:
        try:
            return _convert(value, option, where)
        except ConfigError:
            continue
    return _convert(value, kinds[-1], where)


def _convert_plain(value: object, hint: Any, where: str) -> object:
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and hint is not float and type(value) is hint:
        return value
    raise ConfigError(f"{where} must be a {_NAMES.get(hint, str(hint))}, not {value!r}.")


_NAMES = {str: "string", int: "whole number", float: "number", bool: "true or false", Path: "path"}
