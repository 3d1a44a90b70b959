"""A call: one request as the gateway passes it on, to whichever version it means.

Invariant: what is sent on is the caller's own body with nothing changed but `model`, the form that
the version's answers are held to, and, in a stream, the wish to be told its tokens.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from serving.answer_form import HEADER, Form, fields_of, form_for, has_own, held_to
from serving.versions import Version


@dataclass(frozen=True)
class Call:
    """One request, read and checked.

    Attributes:
        path: The API's path.
        body: The request as it came.
        resolve: Tells the version that it means at this moment.
        request_id: Goes on to the replica.
        note_usage: Is told the tokens of a stream whose caller has not asked for them.
        trace: The headers that carry its trace on.
        free: Whether the caller asks for an answer that is held to no form.
        key_id: Whose it is.
    """

    path: str
    body: dict[str, Any]
    resolve: Callable[[], Version]
    request_id: str
    note_usage: Callable[[dict[str, Any]], None] = lambda _: None
    trace: Mapping[str, str] = field(default_factory=dict)
    free: bool = False
    key_id: str = ""

    @property
    def streams(self) -> bool:
        """Whether the caller asked for a stream."""
        return self.body.get("stream") is True

    @property
    def hides_usage(self) -> bool:
        """Whether the replica is asked for a stream's tokens, which the caller did not."""
        return self.streams and self.body.get("stream_options") is None

    @cached_property
    def _own_form(self) -> bool:
        # Asked several times of each call, on its way.
        return has_own(self.body)

    def form(self, version: Version) -> Form:
        """Return the form that the answer of a version is held to."""
        return form_for(self.path, self._own_form, version.form, self.free)

    def sent_as(self, version: Version) -> bytes:
        """Return the body that a replica gets."""
        usage = {"stream_options": {"include_usage": True}} if self.hides_usage else {}
        form = fields_of(self.form(version))
        return json.dumps({**self.body, **usage, **form, "model": version.served_name}).encode()

    def told_by(self, version: Version) -> dict[str, str]:
        """Return the headers that say of an answer which version gave it, held to what."""
        return {
            "x-ftdm-version": version.version,
            "x-ftdm-digest": version.digest,
            HEADER: held_to(self._own_form, self.form(version)),
        }
