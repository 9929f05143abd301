"""Names of tools: fitted to a vendor, and given back to the caller as it knows them.

The fitted name follows from the name alone, so every place of a conversation has the same one and
the request says which name an answer means.
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
    """The name in letters, digits, `_` and `-`, at most `longest` of them; the name itself if it is
    so, or if there is no such rule."""
    if longest is None or (name and len(name) <= longest and not _OTHERS.search(name)):
        return name
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    readable = _OTHERS.sub("_", name[: longest - _DIGEST_LENGTH - 1])
    return f"{readable}_{digest}"


def renamed_tools(request: LLMRequest, longest: int | None) -> Mapping[str, str]:
    """What the caller calls the tools that had to be renamed, by the vendor's name."""
    if longest is None or not request.tools:
        return {}
    names = (tool.name for tool in request.tools if isinstance(tool, Tool))
    return {new: name for name in names if (new := fitted_name(name, longest)) != name}


def with_caller_tool_names(completion: Completion, names: Mapping[str, str]) -> Completion:
    """The completion with the caller's names. It is in no format, so that the vendor's bytes, which
    have other names, are not relayed."""
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
    """A parser whose events have the caller's names; its frames are not relayed as they are."""

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
