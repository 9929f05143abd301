"""Reads blocks of Anthropic Messages as files or as text that other formats can carry.

Source: https://platform.claude.com/docs/en/build-with-claude/pdf-support, /search-results and
/agents-and-tools/tool-use/tool-search-tool.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from llm_routing.core.content import FilePart, Part, TextPart
from llm_routing.formats.data_urls import PDF, part_of_data
from llm_routing.formats.fields import Fields


def read_document(block: Fields) -> Part | None:
    """Returns the file or the text of a `document`, or None if only its own vendor can read it."""
    source = block.object("source")
    if source is None:
        return None
    title = block.string("title")
    match source.string("type"):
        case "base64":
            media_type = source.string("media_type") or PDF
            return part_of_data(media_type, source.required_string("data"), title)
        case "url":
            return FilePart(url=source.required_string("url"), name=title)
        case "text":
            return TextPart(_joined(title, block.string("context"), source.required_string("data")))
        case "content":
            text = _text(source.get("content"))
            return None if text is None else TextPart(_joined(title, block.string("context"), text))
        case _:
            return None


def fallback_text(block: Mapping[str, Any]) -> str | None:
    """Returns the text that represents a block in other formats, or None if there is none."""
    match block.get("type"):
        case "tool_reference":
            return f"The tool {block.get('tool_name')} is available."
        case "search_result":
            text = _text(block.get("content"))
            found = _joined(*(str(block.get(name) or "") for name in ("title", "source")))
            return None if text is None else _joined(found, text)
        case "server_tool_use":
            return f"[Used the tool {block.get('name')}.]"
        case str(kind) if kind.endswith("_tool_result"):
            return "\n".join(_texts_in(block.get("content"))) or "[The tool returned nothing.]"
        case _:
            return None


def _text(content: Any) -> str | None:
    """Returns the text of a string or of blocks that are all text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [item.get("text") if isinstance(item, dict) else None for item in content]
    known = [text for text in texts if isinstance(text, str)]
    return "\n".join(known) if len(known) == len(texts) else None


def _texts_in(value: Any) -> Iterator[str]:
    """Yields the texts in the result of a server tool, such as titles and addresses of pages."""
    if isinstance(value, str):
        yield value
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            for name in ("title", "url", "text", "stdout", "stderr", "error_code", "tool_name"):
                if isinstance(item.get(name), str) and item[name]:
                    yield item[name]
            for name in ("content", "tool_references"):
                yield from _texts_in(item.get(name))


def _joined(*texts: str | None) -> str:
    return "\n".join(text for text in texts if text)
