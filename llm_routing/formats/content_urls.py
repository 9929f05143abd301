"""Checks the URLs in a conversation that a provider would fetch.

Which URLs are allowed is decided in `core.content_addresses`.
"""

from collections.abc import Iterator
from typing import Any, Final

from llm_routing.core.content import FilePart, ForeignPart, ImagePart, TextPart, ToolResultPart
from llm_routing.core.content_addresses import content_url_problem
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.types import LLMRequest

_KEYS: Final = frozenset(
    ("url", "uri", "image_url", "file_url", "file_uri", "video_url", "audio_url", "input_image")
)
# Arguments of tool calls are not fetched.
_SKIPPED: Final = frozenset(("input",))


def check_content_urls(request: LLMRequest) -> None:
    """Raises `InvalidRequest` for a URL that no provider may fetch."""
    parts = [
        part
        for message in request.messages
        for part in message.content
        # Nearly all parts are text, and this runs for every request.
        if type(part) is not TextPart
    ]
    if not parts:
        return
    source = request.source
    found = _in_parts(parts) if source is None else _in_json(source.body["messages"])
    for url in found:
        problem = content_url_problem(url)
        if problem:
            shown = url if len(url) <= 100 else f"{url[:100]}…"
            raise InvalidRequest(f"The URL {shown!r} {problem}.", field="messages")


def _in_parts(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        match part:
            case ImagePart(url=str(url)) | FilePart(url=str(url)):
                yield url
            case ToolResultPart():
                yield from _in_parts(list(part.content))
            case ForeignPart():
                yield from _in_json(part.data)


def _in_json(value: Any) -> Iterator[str]:
    """Yields the strings under names of URL fields, at any depth."""
    ahead = [value]
    while ahead:
        value = ahead.pop()
        if isinstance(value, list):
            ahead += [item for item in value if isinstance(item, dict | list)]
        elif isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, str):
                    if name in _KEYS:
                        yield inner
                elif name not in _SKIPPED:
                    ahead.append(inner)
