"""Reads and writes content blocks of Anthropic Messages, and the ids that connect them.

Source: https://platform.claude.com/docs/en/api/messages
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from msgspec.structs import replace

from llm_routing.core.codec import decode, encode
from llm_routing.core.content import (
    CACHE_MARKABLE_PARTS,
    FilePart,
    ForeignPart,
    ImagePart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    with_fallback_text,
)
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.formats.data_urls import PDF
from llm_routing.formats.fields import Fields, read_cache_control
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.tool_ids import split_signature, with_signature

from .documents import fallback_text, read_document

_SAFE_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_DIGEST_LENGTH: Final = 24


def read_content(owner: Fields, name: str) -> tuple[Part, ...]:
    """Returns the parts of a string or an array of blocks. Raises `InvalidRequest`."""
    value = owner.required(name)
    if isinstance(value, str):
        return (TextPart(value),)
    if not isinstance(value, list):
        raise owner.invalid(name, "must be a string or an array")
    return tuple(read_block(block) for block in owner.objects(name))


def read_block(block: Fields) -> Part:
    """Returns the part of a block; a `ForeignPart` for what no other format has. Raises
    `InvalidRequest`."""
    match block.required_string("type"):
        case "text":
            return TextPart(block.required_string("text"), read_cache_control(block))
        case "image":
            return _read_image(block)
        case "thinking":
            return ThinkingPart(
                block.string("thinking") or "", signature=block.string("signature") or None
            )
        case "redacted_thinking":
            return ThinkingPart(redacted=block.required_string("data"))
        case "tool_use":
            return ToolCallPart(
                id=block.required_string("id"),
                name=block.required_string("name"),
                arguments=encode(block.required_object("input").value).decode(),
                cache_control=read_cache_control(block),
            )
        case "tool_result":
            return _read_tool_result(block)
        case "document":
            part = read_document(block)
            if isinstance(part, CACHE_MARKABLE_PARTS):
                part = replace(part, cache_control=read_cache_control(block))
            return part or ForeignPart(ANTHROPIC_MESSAGES, block.value)
        case _:
            return ForeignPart(ANTHROPIC_MESSAGES, block.value, fallback_text(block.value))


def _read_image(block: Fields) -> Part:
    source = block.required_object("source")
    mark = read_cache_control(block)
    match source.required_string("type"):
        case "base64":
            return ImagePart(
                data=source.required_string("data"),
                media_type=source.required_string("media_type"),
                cache_control=mark,
            )
        case "url":
            return ImagePart(url=source.required_string("url"), cache_control=mark)
        case _:
            return ForeignPart(ANTHROPIC_MESSAGES, block.value)


def _read_tool_result(block: Fields) -> Part:
    call_id = block.required_string("tool_use_id")
    is_error = block.boolean("is_error") or False
    parts = () if block.get("content") is None else read_content(block, "content")
    content = tuple(
        said
        for part in parts
        if isinstance(said := with_fallback_text(part, ""), TextPart | ImagePart | FilePart)
    )
    if len(content) < len(parts):
        return ForeignPart(ANTHROPIC_MESSAGES, block.value)
    return ToolResultPart(call_id, content, is_error, read_cache_control(block))


def write_block(part: Part, ignored: list[str]) -> dict[str, Any] | None:
    """Returns the block for the vendor, or None if it is left out.

    Empty texts, which the vendor refuses, are left out, and so is reasoning without a signature,
    which only its own vendor accepts (named in `ignored`). Raises `UnsupportedRequest`.
    """
    block = _write_block(part, ignored)
    if (
        block is not None
        and isinstance(part, CACHE_MARKABLE_PARTS)
        and part.cache_control is not None
    ):
        block["cache_control"] = part.cache_control
    return block


def _write_block(part: Part, ignored: list[str]) -> dict[str, Any] | None:
    part = with_fallback_text(part, ANTHROPIC_MESSAGES)
    match part:
        case TextPart(text) | RefusalPart(text):
            return {"type": "text", "text": text} if text.strip() else None
        case ImagePart():
            return {"type": "image", "source": _image_source(part)}
        case FilePart():
            return _document(part)
        case ThinkingPart(redacted=str(data)):
            return {"type": "redacted_thinking", "data": data}
        case ThinkingPart(text, signature=str(signature)):
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ThinkingPart():
            ignored.append("thinking")
            return None
        case ToolCallPart(call_id, name, arguments):
            return {
                "type": "tool_use",
                "id": tool_id_for_vendor(call_id),
                "name": name,
                "input": tool_input(arguments),
            }
        case ToolResultPart():
            return _tool_result(part, ignored)
        case _:
            if part.format != ANTHROPIC_MESSAGES:
                raise UnsupportedRequest(
                    f"Anthropic Messages cannot express a part of {part.format}."
                )
            return dict(part.data)


def _document(file: FilePart) -> dict[str, Any]:
    """https://platform.claude.com/docs/en/build-with-claude/pdf-support"""
    source: dict[str, Any] = {"type": "url", "url": file.url}
    if file.data is not None:
        if file.media_type != PDF:
            raise UnsupportedRequest(
                f"Anthropic Messages does not support files of type {file.media_type}."
            )
        source = {"type": "base64", "media_type": PDF, "data": file.data}
    block: dict[str, Any] = {"type": "document", "source": source}
    if file.name:
        block["title"] = file.name
    return block


def _image_source(image: ImagePart) -> dict[str, Any]:
    if image.data is None:
        return {"type": "url", "url": image.url}
    if image.media_type is None:
        raise UnsupportedRequest("Anthropic Messages requires the media type of an inline image.")
    return {"type": "base64", "media_type": image.media_type, "data": image.data}


def _tool_result(part: ToolResultPart, ignored: list[str]) -> dict[str, Any]:
    block: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": tool_id_for_vendor(part.call_id),
    }
    content = [written for item in part.content if (written := write_block(item, ignored))]
    if content:
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def tool_input(arguments: str) -> Mapping[str, Any]:
    """Returns a call's arguments as the object that `tool_use` requires.

    Anything but a JSON object is wrapped as Anthropic advises for invalid input:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
    """
    if not arguments.strip():
        return {}
    try:
        value = decode(arguments)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": arguments}


def tool_id_for_vendor(call_id: str) -> str:
    """Returns the id in the form that Anthropic accepts (`^[a-zA-Z0-9_-]+$`). Equal ids give equal
    results, so a call and its result stay together."""
    call_id, _ = split_signature(call_id)
    return call_id if _SAFE_ID.fullmatch(call_id) else _derived("toolu_", call_id)


def tool_id_for_caller(call_id: str) -> str:
    """Returns a call id that looks like Anthropic's; equal ids give equal results."""
    plain, signature = split_signature(call_id)
    if not (plain.startswith("toolu_") and _SAFE_ID.fullmatch(plain)):
        plain = _derived("toolu_", plain)
    return with_signature(plain, signature)


def message_id(answer_id: str) -> str:
    """Returns an answer id that looks like Anthropic's; equal ids give equal results."""
    return answer_id if answer_id.startswith("msg_") else _derived("msg_", answer_id)


def _derived(prefix: str, source: str) -> str:
    return prefix + sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
