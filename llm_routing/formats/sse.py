"""Server-sent events, sans-IO: a vendor's bytes become whole events, however they are cut.

What an event's data means is for the wire format that reads it.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from llm_routing.core.errors import AnswerTooLarge

KEEP_ALIVE: Final = b": keep-alive\n\n"
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"

# Two line ends in a row; atomic, so that one CRLF is never taken for a CR and an LF.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LONGEST_BLANK_LINE: Final = 4


class ServerSentEvent(NamedTuple):
    """One event: its bytes with LF as line end, blank line included, and what they say.

    `data` is None where no data line came (a comment, a lone blank line). `event` is empty where
    the stream names none. `id` and `retry` are for clients that reconnect, which we are not.
    """

    raw: bytes
    data: bytes | None
    event: str = ""


class EventSplitter:
    """Splits one event stream by the rules of the WHATWG HTML standard, section 9.2.6.

    The `raw` of all events, joined, is the input with every line end written as LF and without a
    byte order mark at its start: clients that split on LF alone read it too. CR, LF and CRLF end a
    line. How the input was cut makes no difference, and no event waits for what follows it: the LF
    of a CRLF that was cut in two is dropped when it comes.
    """

    __slots__ = ("_at_start", "_drops_lf", "_limit", "_only_lf", "_pending", "_scanned")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        self._only_lf = True
        self._at_start = True
        self._drops_lf = False

    @property
    def is_between_events(self) -> bool:
        """Whether what is fed next begins an event."""
        return not self._pending and not self._drops_lf

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """The events that `data` completes. Raises `AnswerTooLarge` for an event past the limit,
        after those before it; has to be iterated to its end."""
        if self._drops_lf and data:
            self._drops_lf = False
            data = data.removeprefix(b"\n")
        if not self._pending and len(data) <= self._limit and (event := _only_event(data)):
            self._only_lf = True
            self._at_start = False
            yield event
            return
        buffer: bytes | bytearray = data
        position = 0
        if self._pending:
            self._pending += data
            buffer = self._pending
            position = self._scanned
        start = 0
        only_lf = self._only_lf and b"\r" not in data
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
        self._scanned = max(size - _LONGEST_BLANK_LINE + 1, 0)
        self._only_lf = only_lf or not size

    def close(self) -> list[ServerSentEvent]:
        """What was left when the stream ended, as one event or none.

        The standard drops an event without its blank line; it is given here all the same, since
        vendors forget the one after their last event. Its `raw` may lack the blank line.
        """
        rest = bytes(self._pending)
        self._pending = bytearray()
        return [self._parsed(rest)] if rest else []

    def _parsed(self, raw: bytes) -> ServerSentEvent:
        if self._at_start:
            self._at_start = False
            raw = raw.removeprefix(BOM)
        if b"\r" in raw:
            raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return _only_event(raw) or _any_event(raw)

    def _too_large(self) -> AnswerTooLarge:
        return AnswerTooLarge(f"An event of the stream is larger than {self._limit} bytes.")


def _only_event(data: bytes) -> ServerSentEvent | None:
    """`data` as one whole event in the shape that nearly every vendor gives to all of them: a line
    of data, at most its name before it, LF at their ends. None for anything else."""
    if not data.endswith(b"\n\n") or b"\r" in data:
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
    """Where the first event after `position` ends, in a stream without CR; 0 where it does not."""
    found = buffer.find(b"\n\n", position)
    return found + 2 if found >= 0 else 0


def _end_with_any(buffer: bytes | bytearray, position: int) -> int:
    """Where the first event after `position` ends; 0 where it does not."""
    match = _BLANK_LINE.search(buffer, position)
    return match.end() if match is not None else 0


def encode_event(data: bytes, event: str = "") -> bytes:
    """One event with `data`, which holds no line end, under the name `event` where there is one."""
    if event:
        return b"event: %s\ndata: %s\n\n" % (event.encode(), data)
    return b"data: %s\n\n" % data
