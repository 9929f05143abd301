"""Fits tool names to a vendor, and restores the caller's names in the answer.

The fitted name depends on the name alone, so it is the same everywhere in a conversation, and the
request tells which name an answer means.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from llm_routing.core.content import Part, Tool, ToolCallPart
from llm_routing.core.errors import UpstreamError
from llm_routing.core.events import Frame, StreamEvent, ToolCallStarted
from llm_routing.core.ports import StreamParser
from llm_routing.core.types import Completion, LLMRequest

_OTHERS: Final = re.compile(r"[^a-zA-Z0-9_-]")
_DIGEST_LENGTH: Final = 8


def fitted_name(name: str, longest: int | None) -> str:
    """Returns the name reduced to letters, digits, `_` and `-` and to `longest` characters. Returns
    it unchanged if it already fits or if there is no limit."""
    if longest is None or (name and len(name) <= longest and not _OTHERS.search(name)):
        return name
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    readable = _OTHERS.sub("_", name[: longest - _DIGEST_LENGTH - 1])
    return f"{readable}_{digest}"


def renamed_tools(request: LLMRequest, longest: int | None) -> Mapping[str, str]:
    """Returns the caller's names of renamed tools, by the vendor's names."""
    if longest is None or not request.tools:
        return {}
    names = (tool.name for tool in request.tools if isinstance(tool, Tool))
    return {new: name for name in names if (new := fitted_name(name, longest)) != name}


def with_caller_tool_names(completion: Completion, names: Mapping[str, str]) -> Completion:
    """Returns the completion with the caller's tool names. Its format is empty, so that the
    vendor's bytes, which have other names, are not relayed."""
    if not names:
        return completion
    choices = tuple(
        replace(choice, content=tuple(_part(part, names) for part in choice.content))
        for choice in completion.choices
    )
    return replace(completion, choices=choices, format="")


def _part(part: Part, names: Mapping[str, str]) -> Part:
    if isinstance(part, ToolCallPart) and part.name in names:
        return replace(part, name=names[part.name])
    return part


class ToolRenamingParser:
    """A parser that restores the caller's tool names; its frames are not relayed as they are."""

    def __init__(self, parser: StreamParser, names: Mapping[str, str]) -> None:
        self._parser = parser
        self._names = names

    @property
    def failure(self) -> UpstreamError | None:
        """See `StreamParser.failure`."""
        return self._parser.failure

    def feed(self, data: bytes) -> Sequence[Frame]:
        """See `StreamParser.feed`."""
        return self._renamed(self._parser.feed(data))

    def close(self) -> Sequence[Frame]:
        """See `StreamParser.close`."""
        return self._renamed(self._parser.close())

    def _renamed(self, frames: Iterable[Frame]) -> list[Frame]:
        return [
            Frame("", frame.raw, tuple(self._event(event) for event in frame.events))
            for frame in frames
        ]

    def _event(self, event: StreamEvent) -> StreamEvent:
        if isinstance(event, ToolCallStarted) and event.name in self._names:
            return replace(event, name=self._names[event.name])
        return event
