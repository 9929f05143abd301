"""A bounded script of the next answers and a bounded log of the requests received.

Secrets are masked and bodies kept as digests only.
"""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .faults import check

MOST_STEPS = 1_000
MOST_ENTRIES = 1_000
_MOST_HEADERS = 64
_LONGEST_VALUE = 512
_LONGEST_NAME = 200
_SECRET_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-portkey-api-key",
        "cookie",
    }
)


class ScriptFull(ValueError):
    """The script holds as many steps as it may."""


class Outcome(StrEnum):
    """The outcome of an exchange."""

    IN_PROGRESS = "in_progress"
    FINISHED = "finished"
    CLIENT_DISCONNECTED = "client_disconnected"
    DROPPED_BY_FAULT = "dropped_by_fault"
    SHUT_DOWN = "shut_down"


@dataclass(frozen=True, slots=True)
class Step:
    """The directives for one future answer (none: a correct answer), limited to `model` and `path`
    if they are set. Without a path it applies to any POST."""

    faults: str = ""
    model: str = ""
    path: str = ""


@dataclass(slots=True)
class Entry:
    """One request received. `events` counts what left of a stream; times are seconds since the
    sandbox started and since the request came."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    received_at: float
    model: str = ""
    stream: bool = False
    fields: tuple[str, ...] = ()
    body_sha256: str = ""
    body_bytes: int = 0
    faults: str = ""
    status: int | None = None
    events: int = 0
    outcome: Outcome = Outcome.IN_PROGRESS
    duration: float | None = None

    def asked(self, data: bytes, body: Mapping[str, Any] | None) -> None:
        """Notes a body without keeping its words."""
        self.body_sha256 = hashlib.sha256(data).hexdigest()
        self.body_bytes = len(data)
        if body is not None:
            self.fields = tuple(sorted(name[:_LONGEST_NAME] for name in body))[:_MOST_HEADERS]
            self.stream = body.get("stream") is True

    def dict(self) -> dict[str, Any]:
        """The entry as `GET /_sandbox/log` shows it."""
        return {
            "number": self.number,
            "method": self.method,
            "path": self.path,
            "headers": dict(self.headers),
            "received_at": round(self.received_at, 6),
            "model": self.model,
            "stream": self.stream,
            "fields": list(self.fields),
            "body_sha256": self.body_sha256,
            "body_bytes": self.body_bytes,
            "faults": self.faults,
            "status": self.status,
            "events": self.events,
            "outcome": self.outcome.value,
            "duration": None if self.duration is None else round(self.duration, 6),
        }


@dataclass(slots=True)
class Journal:
    """The script and the log of one sandbox, in memory."""

    steps: deque[Step] = field(default_factory=deque)
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=MOST_ENTRIES))
    received: int = 0
    _started: float = field(default_factory=time.monotonic)

    def script(self, *steps: Step | str) -> None:
        """Appends steps; a string is a step for any model.

        Raises `ScriptFull` past a thousand steps and `FaultSyntaxError` for a directive that
        cannot be read; then none of them is taken.
        """
        new = [Step(step) if isinstance(step, str) else step for step in steps]
        for step in new:
            check(step.faults)
        if len(self.steps) + len(new) > MOST_STEPS:
            raise ScriptFull(f"the script holds at most {MOST_STEPS} steps")
        self.steps.extend(new)

    def take(self, method: str, path: str, model: str) -> Step | None:
        """Removes and gives the first step that fits a request."""
        for index, step in enumerate(self.steps):
            right_path = step.path == path if step.path else method == "POST"
            if right_path and step.model in ("", model):
                del self.steps[index]
                return step
        return None

    def open(self, method: str, path: str, headers: Iterable[tuple[str, str]]) -> Entry:
        """A new entry; the oldest leaves when there are too many."""
        self.received += 1
        entry = Entry(
            number=self.received,
            method=method,
            path=path[:_LONGEST_VALUE],
            headers=_masked(headers),
            received_at=time.monotonic() - self._started,
        )
        self.entries.append(entry)
        return entry

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """Notes how an exchange ended; the first word counts."""
        if entry.outcome is Outcome.IN_PROGRESS:
            entry.outcome = outcome
            entry.duration = time.monotonic() - self._started - entry.received_at

    def reset(self) -> None:
        """Empties both."""
        self.steps.clear()
        self.entries.clear()
        self.received = 0

    def dict(self) -> dict[str, Any]:
        """The log as `GET /_sandbox/log` shows it."""
        return {
            "received": self.received,
            "scripted": len(self.steps),
            "entries": [entry.dict() for entry in self.entries],
        }


def _masked(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    shown: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()[:_LONGEST_NAME]
        if len(shown) < _MOST_HEADERS:
            shown[name] = "***" if name in _SECRET_HEADERS else value[:_LONGEST_VALUE]
    return shown
