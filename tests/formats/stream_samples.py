"""A streamed answer of a known server, and the expected result."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """A stream and its expected result. `calls` are names and arguments."""

    name: str
    stream: bytes
    text: str = "Hi you"
    thinking: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    finish: str = "stop"
    is_complete: bool = False
    """Whether a caller of OpenAI's format is sent the very bytes."""
    is_counted: bool = False
    tags: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        return self.name


def event(value: Any, **options: Any) -> bytes:
    return b"data: " + json.dumps(value, **options).encode() + b"\n\n"
