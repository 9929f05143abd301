"""Estimates the length of a prompt, in characters of text that would cost as many tokens.

Used when no vendor has counted the tokens.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from llm_routing.core.codec import encode
from llm_routing.core.content import (
    FilePart,
    ImagePart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from llm_routing.core.types import LLMRequest

CHARACTERS_PER_TOKEN: Final = 4
# https://platform.openai.com/docs/guides/images-vision: a square image of 1024 pixels
IMAGE: Final = 765 * CHARACTERS_PER_TOKEN
IMAGE_OF_LOW_DETAIL: Final = 85 * CHARACTERS_PER_TOKEN
# https://platform.claude.com/docs/en/build-with-claude/pdf-support: 1 500 to 3 000 tokens a page
PAGE: Final = 2_000 * CHARACTERS_PER_TOKEN
BASE64_CHARACTERS_PER_PAGE: Final = 100_000
MAX_PAGES: Final = 600


def prompt_length(request: LLMRequest) -> int:
    """Returns the length of the conversation."""
    length = len(request.system_prompt or "")
    for message in request.messages:
        length += content_length(message.content)
    return length


def content_length(content: Iterable[Part]) -> int:
    """Returns the length of the parts of a message or an answer."""
    length = 0
    for part in content:
        # Nearly all parts are text.
        length += len(part.text) if type(part) is TextPart else part_length(part)
    return length


def tools_length(request: LLMRequest) -> int:
    """Returns the length of the request's tools, which vendors count as input."""
    length = 0
    for tool in request.tools:
        if isinstance(tool, Tool):
            length += len(tool.name) + len(tool.description or "") + len(encode(tool.parameters))
        else:
            length += len(encode(tool.data))
    return length


def part_length(part: Part) -> int:
    """Returns the length of one part of a message."""
    match part:
        case TextPart() | RefusalPart() | ThinkingPart():
            return len(part.text)
        case ToolCallPart():
            return len(part.name) + len(part.arguments)
        case ToolResultPart():
            return content_length(part.content)
        case ImagePart():
            return IMAGE_OF_LOW_DETAIL if part.detail == "low" else IMAGE
        case FilePart():
            return _document_length({"data": part.data})
        case _:
            return _foreign_length(part.data)


def _foreign_length(data: Mapping[str, Any]) -> int:
    """Measures a document by its text or its pages, anything else by its text."""
    length = _text_length(data.get("text")) + _text_length(data.get("title"))
    for name in ("source", "file"):
        inner = data.get(name)
        if isinstance(inner, dict):
            length += _document_length(inner)
    return length


def _document_length(source: Mapping[str, Any]) -> int:
    if source.get("type") == "text":
        return _text_length(source.get("data"))
    content = source.get("content")
    if isinstance(content, list):
        return sum(_foreign_length(block) for block in content if isinstance(block, dict))
    if isinstance(content, str):
        return len(content)
    size = _text_length(source.get("data")) + _text_length(source.get("file_data"))
    return PAGE * min(max(math.ceil(size / BASE64_CHARACTERS_PER_PAGE), 1), MAX_PAGES)


def _text_length(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0
