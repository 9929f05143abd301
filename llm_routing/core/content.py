"""The parts of a conversation: messages, content parts, tools and answer formats.

The canonical form between the wire formats; `llm_routing.formats` translates it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field


class Role(StrEnum):
    """The author of a message. OpenAI's `developer` is SYSTEM; tool results are TOOL."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class TextPart(Struct, frozen=True):
    """Plain text. Here and in other parts, `cache_control` asks vendors that support it to cache
    the prompt up to this part."""

    text: str
    cache_control: Mapping[str, Any] | None = None


class ImagePart(Struct, frozen=True):
    """An image, either inline (`data`, base64, with its `media_type`) or by `url`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None
    cache_control: Mapping[str, Any] | None = None


class FilePart(Struct, frozen=True):
    """A document, either inline (`data`, base64) or by `url`."""

    url: str | None = None
    data: str | None = None
    media_type: str = "application/pdf"
    name: str | None = None
    cache_control: Mapping[str, Any] | None = None


class ThinkingPart(Struct, frozen=True):
    """The model's visible reasoning. `signature` authenticates it to the vendor that wrote it;
    `redacted` is an encrypted block that only that vendor can read (then `text` is empty)."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


class RefusalPart(Struct, frozen=True):
    """The model's explanation of a refusal."""

    text: str
    cache_control: Mapping[str, Any] | None = None


class ToolCallPart(Struct, frozen=True):
    """A tool call that the model requests. `arguments` is the JSON text as the model wrote it; it
    may be invalid."""

    id: str
    name: str
    arguments: str
    cache_control: Mapping[str, Any] | None = None


class ToolResultPart(Struct, frozen=True):
    """The result of the tool call `call_id`."""

    call_id: str
    content: tuple["TextPart | ImagePart | FilePart", ...] = ()
    is_error: bool = False
    cache_control: Mapping[str, Any] | None = None


class ForeignPart(Struct, frozen=True):
    """A part that only one wire format has (audio, a search result). In other formats
    `fallback_text` replaces it; None if no text can."""

    format: str
    data: Mapping[str, Any]
    fallback_text: str | None = None


CACHE_MARKABLE_PARTS = (TextPart, ImagePart, FilePart, RefusalPart, ToolCallPart, ToolResultPart)
"""Parts that may have `cache_control`."""

Part = (
    TextPart
    | ImagePart
    | FilePart
    | ThinkingPart
    | RefusalPart
    | ToolCallPart
    | ToolResultPart
    | ForeignPart
)


def with_fallback_text(part: Part, wire_format: str) -> Part:
    """Returns the part as `wire_format` can express it: as text if only another format has it."""
    if (
        isinstance(part, ForeignPart)
        and part.format != wire_format
        and part.fallback_text is not None
    ):
        return TextPart(part.fallback_text)
    return part


class Message(Struct, frozen=True):
    """One message. `name` distinguishes several speakers of one role (OpenAI)."""

    role: Role
    content: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Tool(Struct, frozen=True):
    """A function the model may call; `parameters` is its JSON Schema."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None
    cache_control: Mapping[str, Any] | None = None


class ForeignTool(Struct, frozen=True):
    """A tool of one wire format alone (a vendor's own web search, a custom grammar)."""

    format: str
    data: Mapping[str, Any]


class ToolChoiceMode(StrEnum):
    """Whether the model may, must or must not call tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


class ToolChoice(Struct, frozen=True):
    """The caller's choice of tools; `name` is set only with `ToolChoiceMode.NAMED`."""

    mode: ToolChoiceMode
    name: str | None = None


class AnswerFormat(StrEnum):
    """The required form of the answer's text."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


class ResponseFormat(Struct, frozen=True):
    """The requested form; `name`, `schema`, `strict` and `description` are set only with
    JSON_SCHEMA."""

    kind: AnswerFormat
    name: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class Reasoning(Struct, frozen=True):
    """The amount of reasoning: a named `effort` (OpenAI: minimal, low, medium, high …) or
    `budget_tokens` (Anthropic). `enabled=False` turns reasoning off."""

    enabled: bool = True
    effort: str | None = None
    budget_tokens: int | None = None
