"""Server-sent events, sans-IO: splits a vendor's bytes into complete events, however they are cut.

The meaning of an event's data is up to the wire format.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from llm_routing.core.errors import AnswerTooLarge

KEEP_ALIVE: Final = b": keep-alive\n\n"
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"
# A number: looking for bytes with `in` raises and catches an exception inside.
_CR: Final = ord("\r")

# Two line ends in a row; atomic, so that a CRLF is never matched as a CR and an LF.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LONGEST_BLANK_LINE: Final = 4


class ServerSentEvent(NamedTuple):
    """One event: its bytes, with LF line ends and the blank line, and its fields.

    `data` is None without a data line (a comment, a lone blank line). `event` is empty if the
    stream names none. `id` and `retry` are for clients that reconnect, so they are not read.
    """

    raw: bytes
    data: bytes | None
    event: str = ""


class EventSplitter:
    """Splits one event stream by the rules of the WHATWG HTML standard, section 9.2.6.

    The joined `raw` of all events is the input with LF for every line end and without a byte order
    mark at its start, so that clients that split on LF only can read it. CR, LF and CRLF end a
    line. The result does not depend on how the input was cut, and no event waits for the next one:
    the LF of a CRLF that was cut in two is dropped when it arrives.
    """

    __slots__ = (
        "_at_start",
        "_drops_lf",
        "_limit",
        "_only_lf",
        "_pending",
        "_scanned",
        "is_between_events",
    )

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        self._only_lf = True
        self._at_start = True
        self._drops_lf = False
        self.is_between_events = True
        """Whether the next bytes begin a new event."""

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """Yields the events that `data` completes. Raises `AnswerTooLarge` for an event above the
        limit, after the events before it. The caller must exhaust the iterator."""
        if self._drops_lf and data:
            self._drops_lf = False
            data = data.removeprefix(b"\n")
        if not self._pending and len(data) <= self._limit and (event := _only_event(data)):
            self._only_lf = True
            self._at_start = False
            self.is_between_events = True
            yield event
            return
        buffer: bytes | bytearray = data
        position = 0
        if self._pending:
            self._pending += data
            buffer = self._pending
            position = self._scanned
        start = 0
        only_lf = self._only_lf and _CR not in data
        end_of_event = _end_with_lf if only_lf else _end_with_any
        while (end := end_of_event(buffer, position)) > 0:
            if end - start > self._limit:
                raise self._too_large()
            event = self._parsed(bytes(buffer[start:end]))
            self._drops_lf = end == len(buffer) and buffer[-1:] == b"\r"
            start = position = end
            yield event
        size = len(buffer) - start
        if size > self._limit:
            raise self._too_large()
        if start or buffer is data:
            self._pending = bytearray(buffer[start:])
        self.is_between_events = not size and not self._drops_lf
        self._scanned = max(size - _LONGEST_BLANK_LINE + 1, 0)
        self._only_lf = only_lf or not size

    def close(self) -> list[ServerSentEvent]:
        """Returns the rest of the stream as one event, or an empty list.

        The standard drops an event without its blank line. It is returned here because some vendors
        omit the blank line after their last event. Its `raw` may lack the blank line.
        """
        rest = bytes(self._pending)
        self._pending = bytearray()
        return [self._parsed(rest)] if rest else []

    def _parsed(self, raw: bytes) -> ServerSentEvent:
        if self._at_start:
            self._at_start = False
            raw = raw.removeprefix(BOM)
        if _CR in raw:
            raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return _only_event(raw) or _any_event(raw)

    def _too_large(self) -> AnswerTooLarge:
        return AnswerTooLarge(f"An event of the stream is larger than {self._limit} bytes.")


def _only_event(data: bytes) -> ServerSentEvent | None:
    """Returns `data` as one complete event if it has the shape that most vendors use: one data
    line, optionally preceded by an event line, with LF line ends. Returns None otherwise."""
    if not data.endswith(b"\n\n") or _CR in data:
        return None
    start, event = 0, ""
    if data.startswith(b"event: "):
        start = data.find(b"\n") + 1
        event = data[7 : start - 1].decode("utf-8", "replace")
    if not data.startswith(b"data: ", start) or data.find(b"\n", start) != len(data) - 2:
        return None
    return ServerSentEvent(data, data[start + 6 : -2], event)


def _any_event(raw: bytes) -> ServerSentEvent:
    event = ""
    lines: list[bytes] = []
    for line in raw.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
        elif name == b"event":
            event = value.removeprefix(b" ").decode("utf-8", "replace")
    return ServerSentEvent(raw, b"\n".join(lines) if lines else None, event)


def _end_with_lf(buffer: bytes | bytearray, position: int) -> int:
    """Returns the end of the first event after `position` in a stream without CR, or 0."""
    found = buffer.find(b"\n\n", position)
    return found + 2 if found >= 0 else 0


def _end_with_any(buffer: bytes | bytearray, position: int) -> int:
    """Returns the end of the first event after `position`, or 0."""
    match = _BLANK_LINE.search(buffer, position)
    return match.end() if match is not None else 0


def encode_event(data: bytes, event: str = "") -> bytes:
    """Encodes one event. `data` holds no line end; `event` is its optional name."""
    if event:
        return b"event: %s\ndata: %s\n\n" % (event.encode(), data)
    return b"data: %s\n\n" % data
