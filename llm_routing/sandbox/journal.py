"""A bounded script of the next answers and a bounded log of received requests.

Secrets are masked, and bodies are stored as digests only.
"""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .faults import check

MAX_STEPS = 1_000
MAX_ENTRIES = 1_000
_MAX_HEADERS = 64
_MAX_VALUE = 512
_MAX_NAME = 200
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
    """The script has reached its maximum number of steps."""


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
    """One received request. `events` counts the events sent; times are seconds since the sandbox
    started and since the request arrived."""

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

    def record_body(self, data: bytes, body: Mapping[str, Any] | None) -> None:
        """Records a body without storing its content."""
        self.body_sha256 = hashlib.sha256(data).hexdigest()
        self.body_bytes = len(data)
        if body is not None:
            self.fields = tuple(sorted(name[:_MAX_NAME] for name in body))[:_MAX_HEADERS]
            self.stream = body.get("stream") is True

    def dict(self) -> dict[str, Any]:
        """Returns the entry as shown by `GET /_sandbox/log`."""
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
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_ENTRIES))
    received: int = 0
    _started: float = field(default_factory=time.monotonic)

    def script(self, *steps: Step | str) -> None:
        """Appends steps; a string is a step for any model.

        Raises `ScriptFull` above a thousand steps and `FaultSyntaxError` for an invalid directive;
        then no step is appended.
        """
        new = [Step(step) if isinstance(step, str) else step for step in steps]
        for step in new:
            check(step.faults)
        if len(self.steps) + len(new) > MAX_STEPS:
            raise ScriptFull(f"the script holds at most {MAX_STEPS} steps")
        self.steps.extend(new)

    def take(self, method: str, path: str, model: str) -> Step | None:
        """Removes and returns the first step that matches a request."""
        for index, step in enumerate(self.steps):
            right_path = step.path == path if step.path else method == "POST"
            if right_path and step.model in ("", model):
                del self.steps[index]
                return step
        return None

    def open(self, method: str, path: str, headers: Iterable[tuple[str, str]]) -> Entry:
        """Adds an entry; the oldest one is removed if there are too many."""
        self.received += 1
        entry = Entry(
            number=self.received,
            method=method,
            path=path[:_MAX_VALUE],
            headers=_masked(headers),
            received_at=time.monotonic() - self._started,
        )
        self.entries.append(entry)
        return entry

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """Records the outcome of an exchange; later calls are ignored."""
        if entry.outcome is Outcome.IN_PROGRESS:
            entry.outcome = outcome
            entry.duration = time.monotonic() - self._started - entry.received_at

    def reset(self) -> None:
        """Clears the script and the log."""
        self.steps.clear()
        self.entries.clear()
        self.received = 0

    def dict(self) -> dict[str, Any]:
        """Returns the log as shown by `GET /_sandbox/log`."""
        return {
            "received": self.received,
            "scripted": len(self.steps),
            "entries": [entry.dict() for entry in self.entries],
        }


def _masked(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    shown: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()[:_MAX_NAME]
        if len(shown) < _MAX_HEADERS:
            shown[name] = "***" if name in _SECRET_HEADERS else value[:_MAX_VALUE]
    return shown
