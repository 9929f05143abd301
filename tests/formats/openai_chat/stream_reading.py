"""Reads streamed answers, for tests."""

from llm_routing.core.events import (
    StreamEvent,
)
from tests.formats.openai_chat.chunks import (
    frames_of,
)


def events_of(*chunks: bytes) -> list[StreamEvent]:
    return [event for frame in frames_of(*chunks) for event in frame.events]
