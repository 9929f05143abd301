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
    """One server-sent event, framed. `content` says that it carries a piece of the answer."""

    data: bytes
    content: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer in events. `broken` is one whose JSON breaks off and that is no piece of the
    answer, `error` one that reports a failure; they are sent only where a fault asks for them."""

    events: Iterable[Event]
    broken: Event
    error: Event
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def dump(value: Any) -> bytes:
    """JSON as vendors write it: UTF-8 without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
