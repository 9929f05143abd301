"""Fits the messages of OpenAI Chat Completions to the vendor they go to.

It fits roles and their order, fields, ids of tool calls, and the reasoning that must be sent back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.quirks import Quirks, is_model
from llm_routing.core.routing_table import Target
from llm_routing.formats.ignored_fields import check_can_be_ignored, has_value
from llm_routing.formats.tool_ids import fitted_id, signature_in, split_signature
from llm_routing.formats.tool_names import fitted_name

Message = Mapping[str, Any]

_PLAIN_ROLES: Final = frozenset(("system", "user", "assistant"))
# Google accepts it for a call that another vendor made:
# https://ai.google.dev/gemini-api/docs/thought-signatures
FOREIGN_SIGNATURE: Final = "skip_thought_signature_validator"
# An assistant turn between a tool's result and a user's message, for vendors that require one.
_BETWEEN: Final = {"role": "assistant", "content": "OK."}
# Other names for the reasoning of an assistant's message.
_THINKING_FIELDS: Final = ("reasoning_content", "reasoning")


def fit_messages(body: dict[str, Any], target: Target, ignored: list[str]) -> None:
    """Puts fitted messages into `body`; messages that already fit are not copied."""
    quirks = target.provider.quirks
    messages: Sequence[Message] = body["messages"]
    if not all(map(_is_plain, messages)):
        fit = _Fit(quirks, target.model.model_id, ignored)
        messages = [fit.message(message) for message in messages]
    if not quirks.empty_assistant:
        messages = [message for message in messages if not _is_empty(message)] or messages
    if quirks.system_first:
        messages = _system_first(messages)
    if quirks.assistant_after_tools:
        messages = _assistant_after_tools(messages)
    if quirks.prefix_message and messages and messages[-1]["role"] == "assistant":
        messages = [*messages[:-1], {**messages[-1], "prefix": True}]
    body["messages"] = messages


def _is_plain(message: Message) -> bool:
    """Returns whether a message is plain text that every vendor accepts. Most are."""
    is_short = len(message) == 2 and type(message.get("content")) is str
    return is_short and message["role"] in _PLAIN_ROLES


class _Fit:
    def __init__(self, quirks: Quirks, model_id: str, ignored: list[str]) -> None:
        self._quirks = quirks
        self._ignored = ignored
        self._marks_cache = is_model(quirks.marks_cache, model_id)

    def message(self, message: Message) -> Message:
        """Returns the fitted message, itself if it already fits."""
        if _is_plain(message):
            return message
        role = message["role"]
        fitted = self._with_known_fields(message)
        if role == "developer" and not self._quirks.developer_role:
            fitted["role"] = "system"
        if isinstance(fitted.get("content"), list):
            # The content of the deprecated role `function` is not read.
            fitted["content"] = [
                self._part(part) if isinstance(part, dict) else part for part in fitted["content"]
            ]
        if isinstance(fitted.get("tool_call_id"), str):
            fitted["tool_call_id"] = fitted_id(fitted["tool_call_id"], self._quirks.tool_ids)
        if role == "tool" and isinstance(fitted.get("name"), str):
            fitted["name"] = self._tool_name(fitted["name"])
        if role == "assistant" and fitted.get("tool_calls"):
            self._fit_calls(fitted, message)
        return fitted

    def _with_known_fields(self, message: Message) -> dict[str, Any]:
        quirks = self._quirks
        kept: dict[str, Any] = {}
        for name, value in message.items():
            is_taken = quirks.message_fields is None or name in quirks.message_fields
            if name == "cache_control" and not self._marks_cache:
                is_taken = False
            if is_taken and name not in quirks.refused_message_fields:
                kept[name] = value
            elif has_value(value):
                check_can_be_ignored(f"messages.{name}", value)
                self._ignored.append(name)
        mark, content = kept.get("cache_control"), kept.get("content")
        if mark is not None and isinstance(content, str):
            # `cache_control` belongs on a part.
            del kept["cache_control"]
            kept["content"] = [{"type": "text", "text": content, "cache_control": mark}]
        return kept

    def _part(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._marks_cache and "cache_control" in part:
            if has_value(part["cache_control"]):
                self._ignored.append("cache_control")
            part = {name: value for name, value in part.items() if name != "cache_control"}
        if part.get("type") == "image_url" and isinstance(part.get("image_url"), str):
            # Some clients, such as Mistral's, write the URL without the object around it.
            part = {**part, "image_url": {"url": part["image_url"]}}
        types = self._quirks.part_types
        if types is None:
            return part
        if self._quirks.document_url and part.get("type") == "file":
            part = _document(part)
        if part.get("type") in types:
            return part
        if isinstance(part.get("refusal"), str):
            return {"type": "text", "text": part["refusal"]}
        raise UnsupportedRequest("The vendor does not support parts of this type in a message.")

    def _fit_calls(self, fitted: dict[str, Any], message: Message) -> None:
        fitted["tool_calls"] = calls = [self._call(call) for call in fitted["tool_calls"]]
        # Of parallel calls the first one has a signature; if none has, the first gets a stand-in.
        if self._quirks.thought_signatures and not any(map(signature_in, calls)):
            calls[0] = {**calls[0], "extra_content": _signed(FOREIGN_SIGNATURE)}
        field = self._quirks.thinking_field
        if field:
            thinking = next((message[name] for name in _THINKING_FIELDS if message.get(name)), "")
            fitted[field] = thinking

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        fitted = dict(call)
        _, signature = split_signature(call["id"])
        fitted["id"] = fitted_id(call["id"], self._quirks.tool_ids)
        if not self._quirks.thought_signatures:
            if fitted.pop("extra_content", None) is not None:
                self._ignored.append("extra_content")
        elif signature is not None and signature_in(call) is None:
            fitted["extra_content"] = _signed(signature)
        function = call.get("function")
        if isinstance(function, dict):
            fitted["function"] = {**function, "name": self._tool_name(function["name"])}
        return fitted

    def _tool_name(self, name: str) -> str:
        return fitted_name(name, self._quirks.max_tool_name_length)


def _document(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts an OpenAI `file` part to Mistral's:
    https://docs.mistral.ai/capabilities/document_ai. Raises `UnsupportedRequest` for a file
    known only by its id at OpenAI."""
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data, str) or not isinstance(file, dict):
        raise UnsupportedRequest("The vendor has no file with this id.")
    written = {"type": "document_url", "document_url": data}
    if isinstance(file.get("filename"), str):
        written["document_name"] = file["filename"]
    return written


def _signed(signature: str) -> dict[str, Any]:
    return {"google": {"thought_signature": signature}}


def _system_first(messages: Sequence[Message]) -> Sequence[Message]:
    """Merges all system messages into one, before the other messages."""
    places = [place for place, message in enumerate(messages) if message["role"] == "system"]
    if places in ([], [0]):
        return messages
    parts = [part for place in places for part in _parts(messages[place].get("content"))]
    content: str | list[Any] = parts
    if all(part.keys() == {"type", "text"} for part in parts):
        # Chat templates mostly read only a string.
        content = "\n\n".join(part["text"] for part in parts)
    others = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": content}, *others]


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict)]


def _is_empty(message: Message) -> bool:
    is_silent = not message.get("content") and not message.get("tool_calls")
    return is_silent and message["role"] == "assistant"


def _assistant_after_tools(messages: Sequence[Message]) -> Sequence[Message]:
    """Inserts a short assistant message between a tool message and a user message that follows
    it."""
    fitted: list[Message] = []
    for message in messages:
        if fitted and fitted[-1]["role"] == "tool" and message["role"] == "user":
            fitted.append(_BETWEEN)
        fitted.append(message)
    return fitted
