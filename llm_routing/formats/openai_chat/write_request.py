"""Writes requests for vendors of OpenAI Chat Completions, from the caller's body or canonical form.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from llm_routing.core.codec import encode
from llm_routing.core.content import (
    CACHE_MARKABLE_PARTS,
    AnswerFormat,
    FilePart,
    ForeignPart,
    ForeignTool,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    ResponseFormat,
    Role,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
    ToolResultPart,
    with_fallback_text,
)
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.ports import WireRequest
from llm_routing.core.quirks import Quirks, is_model
from llm_routing.core.routing_table import Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats import names
from llm_routing.formats.ignored_fields import bounded_names, untranslated_fields
from llm_routing.formats.names import OPENAI_CHAT

from .fit import fit_request
from .strict_schema import is_strict

HEADERS: Final = {"content-type": "application/json"}
MAX_USER_CHARACTERS: Final = 64


def write_request(request: LLMRequest, target: Target) -> WireRequest:
    """Returns the request for `POST /v1/chat/completions`. Raises `UnsupportedRequest`."""
    ignored: list[str] = []
    source = request.source
    is_own = source is not None and source.format == OPENAI_CHAT
    if source is not None and is_own:
        body = _from_source(source.body, request)
    else:
        body = _Builder(request, target, ignored).build()
    body.update(request.extra)
    body["model"] = target.model.model_id
    fit_request(body, request, target, ignored, is_own=is_own)
    quirks = target.provider.quirks
    if request.has_prefill and quirks.continue_final_message:
        # vLLM does not detect by itself that the last message is to be continued:
        # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
        body.update(continue_final_message=True, add_generation_prompt=False)
    _apply_streaming(body, request.stream, quirks)
    try:
        encoded = encode(body)
    except ValueError as error:
        raise UnsupportedRequest("The request cannot be encoded as JSON.") from error
    return WireRequest("/chat/completions", encoded, HEADERS, ignored=bounded_names(ignored))


def _from_source(source: Mapping[str, Any], request: LLMRequest) -> dict[str, Any]:
    """Returns the caller's own body with the route's settings for fields that the caller did not
    set."""
    body = dict(source)
    if request.system_prompt:
        system = {"role": "system", "content": request.system_prompt}
        body["messages"] = [system, *body["messages"]]
    if body.get("max_completion_tokens") is None and body.get("max_tokens") is None:
        body["max_tokens"] = request.max_tokens
    for name, value in (
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("seed", request.seed),
        ("frequency_penalty", request.frequency_penalty),
        ("presence_penalty", request.presence_penalty),
    ):
        if value is not None and body.get(name) is None:
            body[name] = value
    return body


def _apply_streaming(body: dict[str, Any], stream: bool, quirks: Quirks) -> None:
    options = body.pop("stream_options", None)
    body.pop("stream", None)
    if not stream:
        return
    body["stream"] = True
    if quirks.stream_usage:
        body["stream_options"] = {**(options or {}), "include_usage": True}


def _set(body: dict[str, Any], **values: Any) -> None:
    body.update((name, value) for name, value in values.items() if value is not None)


class _Builder:
    """Writes one canonical request; what the format lacks is added to `ignored`."""

    def __init__(self, request: LLMRequest, target: Target, ignored: list[str]) -> None:
        self._request = request
        quirks = target.provider.quirks
        self._thinking_field = quirks.thinking_field
        self._marks_cache = is_model(quirks.marks_cache, target.model.model_id)
        self._ignored = ignored

    def build(self) -> dict[str, Any]:
        """Returns the body, without model, reasoning and streaming. Raises `UnsupportedRequest`."""
        request = self._request
        self._ignored += untranslated_fields(request.source)
        body: dict[str, Any] = {"messages": self._messages()}
        _set(
            body,
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            stop=list(request.stop) or None,
            seed=request.seed,
            n=request.n if request.n > 1 else None,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            logprobs=request.logprobs or None,
            top_logprobs=request.top_logprobs,
            response_format=self._response_format(request.response_format),
            user=self._user(),
        )
        if request.top_k is not None:
            self._ignored.append("top_k")
        if request.tools:
            _set(
                body,
                tools=[self._tool(tool) for tool in request.tools],
                tool_choice=_write_tool_choice(request.tool_choice),
                parallel_tool_calls=request.parallel_tool_calls,
            )
        return body

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self._request.system_prompt:
            messages.append({"role": "system", "content": self._request.system_prompt})
        # Tool results are text in this format. Their images follow in a user message after the last
        # result of the turn, because nothing may stand between the results.
        images: list[dict[str, Any]] = []
        for message in self._request.messages:
            message = _in_words(message)
            if images and message.role is not Role.TOOL:
                messages.append({"role": "user", "content": images})
                images = []
            match message.role:
                case Role.TOOL:
                    messages += [self._tool_message(part, images) for part in message.content]
                case Role.ASSISTANT:
                    messages.append(self._assistant_message(message))
                case Role.SYSTEM:
                    messages.append(_named(message, self._system_content(message.content)))
                case _:
                    messages.append(_named(message, self._content(message.content)))
        if images:
            messages.append({"role": "user", "content": images})
        return messages

    def _tool_message(self, part: Part, images: list[dict[str, Any]]) -> dict[str, Any]:
        if not isinstance(part, ToolResultPart):
            raise UnsupportedRequest(
                "OpenAI Chat Completions supports only text in a tool's result."
            )
        if part.is_error:
            self._ignored.append("is_error")
        texts = [item.text for item in part.content if isinstance(item, TextPart)]
        images += [_write_part(item) for item in part.content if not isinstance(item, TextPart)]
        content: str | list[dict[str, Any]] = "\n".join(texts)
        mark = self._mark(part)
        if mark:
            content = [{"type": "text", "text": content, **mark}]
        return {"role": "tool", "tool_call_id": part.call_id, "content": content}

    def _assistant_message(self, message: Message) -> dict[str, Any]:
        written = _named(message, message.text or None)
        calls: list[dict[str, Any]] = []
        refusals: list[str] = []
        thoughts: list[str] = []
        for part in message.content:
            match part:
                case TextPart():
                    pass
                case ThinkingPart(text):
                    thoughts.append(text)
                case RefusalPart(text):
                    refusals.append(text)
                case ToolCallPart(call_id, name, arguments):
                    self._mark(part)
                    calls.append(write_tool_call(call_id, name, arguments or "{}"))
                case ForeignPart(names.OPENAI_CHAT, {"type": "custom"} as call):
                    calls.append(dict(call))
                case ForeignPart(names.OPENAI_CHAT, {"type": "audio", "audio": audio}):
                    written["audio"] = audio
                case _:
                    raise UnsupportedRequest(
                        "OpenAI Chat Completions cannot express a part of the assistant's turn."
                    )
        if refusals:
            written["refusal"] = "".join(refusals)
        if thoughts and calls and self._thinking_field:
            written[self._thinking_field] = "".join(thoughts)
        elif thoughts:
            # Vendors of this format refuse or ignore it.
            self._ignored.append("thinking")
        if calls:
            written["tool_calls"] = calls
        elif written["content"] is None and not refusals:
            # Null is valid only beside tool calls.
            written["content"] = ""
        return written

    def _system_content(self, parts: Sequence[Part]) -> str | list[dict[str, Any]]:
        texts: list[str] = []
        written: list[dict[str, Any]] = []
        is_marked = False
        for part in parts:
            if not isinstance(part, TextPart):
                raise UnsupportedRequest(
                    "OpenAI Chat Completions supports only text in a system message."
                )
            mark = self._mark(part)
            is_marked = is_marked or bool(mark)
            texts.append(part.text)
            written.append({"type": "text", "text": part.text, **mark})
        return written if is_marked else "\n".join(texts)

    def _content(self, parts: Sequence[Part]) -> str | list[dict[str, Any]]:
        """Returns a user's content: a string if it is a single text, which every vendor reads, else
        parts."""
        if not parts:
            return ""
        written = [{**_write_part(part), **self._mark(part)} for part in parts]
        if len(written) == 1 and written[0].keys() == {"type", "text"}:
            text: str = written[0]["text"]
            return text
        return written

    def _mark(self, part: Part) -> dict[str, Any]:
        """Returns the `cache_control` field of a part, or names it as ignored if it cannot be
        written."""
        mark = part.cache_control if isinstance(part, CACHE_MARKABLE_PARTS) else None
        if mark is None:
            return {}
        if self._marks_cache and not isinstance(part, ToolCallPart | RefusalPart):
            return {"cache_control": mark}
        self._ignored.append("cache_control")
        return {}

    def _response_format(self, wanted: ResponseFormat | None) -> dict[str, Any] | None:
        if wanted is None or wanted.kind is AnswerFormat.TEXT:
            return None
        if wanted.kind is AnswerFormat.JSON_OBJECT:
            return {"type": "json_object"}
        schema: dict[str, Any] = {"name": wanted.name or "answer"}
        strict = wanted.strict
        if strict and not is_strict(wanted.schema):
            # OpenAI refuses a strict schema that is not closed.
            self._ignored.append("response_format.strict")
            strict = False
        _set(schema, schema=wanted.schema, strict=strict, description=wanted.description)
        return {"type": "json_schema", "json_schema": schema}

    def _tool(self, tool: Tool | ForeignTool) -> dict[str, Any]:
        if isinstance(tool, ForeignTool):
            if tool.format != OPENAI_CHAT:
                raise UnsupportedRequest(
                    f"OpenAI Chat Completions cannot express a tool of {tool.format}."
                )
            return dict(tool.data)
        function: dict[str, Any] = {"name": tool.name}
        _set(function, description=tool.description, parameters=tool.parameters or None)
        if tool.strict and is_strict(tool.parameters):
            function["strict"] = True
        elif tool.strict:
            self._ignored.append("tools.strict")
        written: dict[str, Any] = {"type": "function", "function": function}
        _set(written, cache_control=tool.cache_control)
        return written

    def _user(self) -> str | None:
        user = self._request.user
        if user is not None and len(user) > MAX_USER_CHARACTERS:
            self._ignored.append("user")
            return None
        return user


def _in_words(message: Message) -> Message:
    if not any(isinstance(part, ForeignPart) for part in message.content):
        return message
    return replace(
        message, content=tuple(with_fallback_text(part, OPENAI_CHAT) for part in message.content)
    )


def _named(message: Message, content: Any) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role.value, "content": content}
    _set(written, name=message.name)
    return written


def _write_part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart():
            return _write_image(part)
        case FilePart():
            return _write_file(part)
        case ForeignPart(names.OPENAI_CHAT, data):
            return dict(data)
        case _:
            raise UnsupportedRequest(
                "OpenAI Chat Completions cannot express a part of the user's turn."
            )


def _write_file(file: FilePart) -> dict[str, Any]:
    """https://platform.openai.com/docs/guides/pdf-files"""
    if file.data is None:
        raise UnsupportedRequest("OpenAI Chat Completions does not support files by URL.")
    data = f"data:{file.media_type};base64,{file.data}"
    return {"type": "file", "file": {"filename": file.name or "document.pdf", "file_data": data}}


def _write_image(image: ImagePart) -> dict[str, Any]:
    url = image.url
    if image.data is not None:
        if image.media_type is None:
            raise UnsupportedRequest("The media type of an inline image is missing.")
        url = f"data:{image.media_type};base64,{image.data}"
    written = {"url": url}
    _set(written, detail=image.detail)
    return {"type": "image_url", "image_url": written}


def write_tool_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """Returns a function call as requests and answers write it."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _write_tool_choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if choice is None:
        return None
    if choice.mode is ToolChoiceMode.NAMED:
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode.value
