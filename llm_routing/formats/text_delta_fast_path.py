"""A fast path for events that differ only in their text: their JSON is not parsed.

In most streams most events are one more piece of text, surrounded by the same bytes as in the event
before.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from llm_routing.core.codec import encode
from llm_routing.core.errors import LLMError
from llm_routing.core.events import Frame, TextDelta

from .sse import ServerSentEvent

# How many events in a row to learn from without a match; each attempt costs one more parse.
_ATTEMPTS: Final = 4
_PROBE: Final = b"zq7zq"
_QUOTE: Final = b'"'
# OpenAI pads events with random letters to hide the size of their text:
# https://platform.openai.com/docs/api-reference/chat/create (include_obfuscation).
_PADDING: Final = re.compile(rb'"obfuscation": ?"')


class TextDeltaFastPath:
    """The bytes around the text, learned from an event that was parsed. One per stream.

    A run of bytes between the quotes of a JSON string without quote, backslash or control character
    is the value of that string. Two events that differ only in such a run therefore mean the same,
    except for their text. If the first event was rewritten for callers, the second one is rewritten
    likewise.
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
        """Returns the event `raw` as a frame if it fits the learned pattern, or None if it must be
        parsed."""
        before, after = self._before, self._after
        start = len(before)
        if not start or raw[:start] != before:
            return None
        if self._end:
            end = raw.find(_QUOTE, start)
            rest = end + len(after)
            padding_end = len(raw) - len(self._end)
            if not raw.startswith(after, end) or not raw.endswith(self._end) or rest > padding_end:
                return None
            if _plain(raw[rest:padding_end]) is None:
                return None
        else:
            end = len(raw) - len(after)
            if raw[end:] != after:
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
        """Learns the pattern of `event`, which was parsed as `frame`, if possible.

        `read` must be free of side effects; it is called with a probe in place of the text.
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
        # If the probe breaks the JSON or causes an error, the text also stood in another place.
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
        """Forgets the pattern, because the next events may mean something else."""
        self._before = b""


def _plain(data: bytes) -> str | None:
    """Returns the text of `data` within a JSON string, or None if it must be parsed."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    # Not searched in `data`: `in` of bytes raises an exception inside and is slow.
    is_plain = text.isprintable() and '"' not in text and "\\" not in text
    return text if is_plain else None
