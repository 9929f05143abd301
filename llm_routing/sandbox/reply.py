"""The response of an endpoint before it is sent: a whole body, or the events of a stream."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EXTRA_FIELDS: Mapping[str, Any] = {"x_sandbox": {"note": "a field that nobody documents"}}


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event, encoded. `content`: it carries a piece of the answer."""

    data: bytes
    content: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer as events. `broken` is an event with truncated JSON and no content, `error` one
    that reports a failure; both are sent only if a fault requests them."""

    events: Iterable[Event]
    broken: Event
    error: Event
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def dump(value: Any) -> bytes:
    """Returns JSON as vendors write it: UTF-8 without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
