"""Runs of events that differ in their text alone, read without taking each one's JSON apart.

In nearly every stream nearly every event is one more piece of text, and around the text are the
same bytes as in the event before.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from llm_routing.core.codec import encode
from llm_routing.core.errors import LLMError
from llm_routing.core.events import Frame, TextDelta

from .sse import ServerSentEvent

# Events to learn from in a row without meeting another of their kind: each costs one more reading.
_ATTEMPTS: Final = 4
_PROBE: Final = b"zq7zq"
_QUOTE: Final = b'"'
# OpenAI fills each event up with random letters, so that its size does not tell the text's:
# https://platform.openai.com/docs/api-reference/chat/create (include_obfuscation).
_PADDING: Final = re.compile(rb'"obfuscation": ?"')


class TextDeltaFastPath:
    """The bytes around the text, learned from an event that was read in full. One for a stream.

    What lies between the quotes of a JSON string and has no quote, backslash or control character
    of its own is that string's value, whatever it is: so of two events that are equal but for such
    a piece, the second means what the first does, with the other text. Where the first was shown
    to callers in other words, so is the second.
    """

    __slots__ = ("_after", "_attempts", "_before", "_choice", "_end", "_name", "_shown")

    def __init__(self, name: str) -> None:
        self._name = name
        self._attempts = _ATTEMPTS
        self._before = b""
        self._after = b""
        self._end = b""
        self._choice = 0
        self._shown: tuple[bytes, bytes] | None = None

    def match(self, raw: bytes) -> Frame | None:
        """The event `raw` as a frame where it belongs to the run; None where it has to be read."""
        before = self._before
        if not before or not raw.startswith(before):
            return None
        start = len(before)
        end = raw.find(_QUOTE, start)
        after = self._after
        if self._end:
            rest = end + len(after)
            padding_end = len(raw) - len(self._end)
            if not raw.startswith(after, end) or not raw.endswith(self._end) or rest > padding_end:
                return None
            padding = _plain(raw[rest:padding_end])
            if padding is None or '"' in padding:
                return None
        elif raw[end:] != after:
            return None
        text = _plain(raw[start:end])
        if not text:
            return None
        self._attempts = _ATTEMPTS
        if self._shown is not None:
            raw = self._shown[0] + raw[start:end] + self._shown[1]
        return Frame(self._name, raw, (TextDelta(text, self._choice),))

    def learn(
        self,
        event: ServerSentEvent,
        frame: Frame,
        read: Callable[[ServerSentEvent], Frame],
    ) -> None:
        """Takes `event`, which was read as `frame`, for one of a new run, if it can be.

        `read` has to give what it gave, however often; it is asked what the event would mean with a
        probe in the text's place.
        """
        data, raw = event.data, event.raw
        if data is None or not self._attempts or len(frame.events) != 1:
            return
        text = frame.events[0]
        if not isinstance(text, TextDelta):
            return
        quoted = encode(text.text)
        if len(quoted) < 3 or data.count(quoted) != 1 or raw.count(data) != 1:
            return
        self._attempts -= 1
        start = data.index(quoted) + 1
        before, after, end = data[:start], data[start + len(quoted) - 2 :], b""
        probe = before + _PROBE + after
        if (padding := _PADDING.search(after)) is not None:
            padded = padding.end()
            after, end = after[:padded], after[after.find(_QUOTE, padded) :]
            probe = before + _PROBE + after + _PROBE + end
        head, tail = raw.split(data)
        # What is no JSON any more, or an error, had the words of the text in another place.
        with suppress(ValueError, LLMError):
            probed = ServerSentEvent(head + probe + tail, probe, event.event)
            found = read(probed)
            is_relayed = found.raw == probed.raw
            shown = found.raw.split(_PROBE)
            if found.events == (TextDelta(_PROBE.decode(), text.choice),) and (
                is_relayed or len(shown) == 2
            ):
                self._shown = None if is_relayed else (shown[0], shown[1])
                self._before, self._choice = head + before, text.choice
                self._after, self._end = (after, end + tail) if end else (after + tail, b"")

    def forget(self) -> None:
        """What follows may mean something else."""
        self._before = b""


def _plain(data: bytes) -> str | None:
    """The text that `data` is within a JSON string; None where it has to be read to be known."""
    if b"\\" in data:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
