"""Which requests may be answered from the result cache, and what tells two of them apart. Pure.

Invariants:
- what tells requests apart covers all that an answer depends on: the version (by name and by the
  merged model's digest, which covers weights, tokenizer, chat template and generation_config.json),
  its context and type, the form that the answer is held to, the path, and each field but those that
  change no answer (`_NO_MATTER`); a field that is not known here tells apart;
- an alias and its exact version are one; two versions never are, even of one digest;
- the order inside a field stays as it came: of a JSON schema's properties, or of a tool's, it
  changes the answer. Only the request's own fields and those of each message are sorted;
- a request without a temperature has the one of the model's generation_config.json.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from serving.answer_form import Form
from serving.errors import ApiError
from serving.versions import Version

HEADER = "x-ftdm-cache"
Wish = Literal["on", "off", ""]
_WISHES: dict[str, Wish] = {"on": "on", "off": "off", "": ""}

# Counts up when what is kept, or what tells requests apart, changes its form.
_FORM = 2
_NO_MATTER = {"model", "stream", "stream_options", "user"}
_NO_MATTER |= {"safety_identifier", "prompt_cache_key", "metadata"}
_ENGINE_TEMPERATURE = 1.0


def wish_of(headers: Mapping[str, str]) -> Wish:
    """Return what the caller asks of the cache: `on`, `off`, or blank for the default.

    Raises:
        ApiError: It is another word.
    """
    word = headers.get(HEADER, "").strip().lower()
    if word not in _WISHES:
        message = f"The header X-FTDM-Cache is {word!r}: write `on` or `off`."
        raise ApiError(400, message, "invalid_header")
    return _WISHES[word]


def may_be_kept(body: Mapping[str, Any], version: Version, wish: Wish) -> bool:
    """Say whether an answer may be kept, given again and shared by requests in flight.

    Only one answer without log-probabilities is; `on` stands for a temperature of 0.
    """
    if wish == "off" or not version.cache.enabled:
        return False
    one = all(body.get(key) in (None, 1) for key in ("n", "best_of"))
    # `is`: in a completion `logprobs: 0` asks for those of the chosen tokens.
    plain = body.get("logprobs") is None or body["logprobs"] is False
    plain = plain and not body.get("top_logprobs") and body.get("prompt_logprobs") is None
    return one and plain and _plain_stream(body) and (wish == "on" or _is_greedy(body, version))


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Say whether the caller of a stream asked for its usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def told_apart(path: str, body: Mapping[str, Any], version: Version, form: Form) -> bytes | None:
    """Return what is equal for two requests just when they have one answer; None: no such thing.

    `form` is what the answer is held to: the version's own, unless the caller wants otherwise.
    """
    fields = {key: _field(key, body[key]) for key in sorted(body.keys() - _NO_MATTER)}
    of_version = (version.version, version.digest, version.max_model_len, version.dtype)
    try:
        # A lone surrogate cannot be written, NaN is no JSON.
        return json.dumps(
            (_FORM, of_version, form, path, fields),
            ensure_ascii=False,
            separators=(",", ":"),
            allow_nan=False,
        ).encode()
    except (ValueError, RecursionError):
        return None


def _field(key: str, value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # A temperature of 0.0 is one of 0.
    if key == "messages" and isinstance(value, list):
        return [dict(sorted(one.items())) if isinstance(one, dict) else one for one in value]
    return value


def _plain_stream(body: Mapping[str, Any]) -> bool:
    """Say whether a stream, if it is one, has nothing that a replay could not give."""
    options = body.get("stream_options")
    return not options or (isinstance(options, dict) and options.keys() <= {"include_usage"})


def _is_greedy(body: Mapping[str, Any], version: Version) -> bool:
    temperature = body.get("temperature")
    if temperature is None:
        temperature = served_temperature(version)
    # In JSON `false` is no number.
    return isinstance(temperature, int | float) and temperature == 0 and temperature is not False


def served_temperature(version: Version) -> float:
    """Return what the engine takes where a request has no temperature."""
    try:
        return _temperature_in(version.folder, version.digest)
    except (OSError, ValueError, AttributeError, TypeError):
        return _ENGINE_TEMPERATURE


@lru_cache(maxsize=64)
def _temperature_in(folder: Path, _digest: str) -> float:
    try:
        text = (folder / "generation_config.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        if not folder.is_dir():
            raise  # It may be on its way.
        # Remembered as well: the digest covers that a model has no such file.
        return _ENGINE_TEMPERATURE
    return float(json.loads(text).get("temperature", _ENGINE_TEMPERATURE))
