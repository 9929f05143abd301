"""Requests as vendors of OpenAI Chat Completions want them, from the caller's body or canonical.

Reading a caller's is in `openai_chat_request`. Source:
https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from llm_routing.core.codec import encode
from llm_routing.core.content import (
    AnswerFormat,
    ForeignPart,
    ForeignTool,
    ImagePart,
    Message,
    Part,
    Reasoning,
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
)
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.ports import WireRequest
from llm_routing.core.routing_table import ModelSpec, Target
from llm_routing.core.types import LLMRequest

from .openai_chat_request import NAME
from .openai_strict_schema import is_strict

HEADERS: Final = {"content-type": "application/json"}
MAX_USER_CHARACTERS: Final = 64

_SAMPLING: Final = ("temperature", "top_p")
# A budget of thinking tokens up to which an effort is meant.
_EFFORTS_BY_BUDGET: Final = ((4096, "low"), (16_384, "medium"))


def build_request(request: LLMRequest, target: Target) -> WireRequest:
    """The request for `POST /v1/chat/completions`. Raises `UnsupportedRequest`."""
    ignored: list[str] = []
    source = request.source
    if source is not None and source.format == NAME:
        body = _from_source(source.body, request, target.model)
    else:
        body = _Builder(request, target.model, ignored).build()
    body.update(request.extra)
    body["model"] = target.model.model_id
    _apply_model(body, target.model, source.body if source else body, ignored)
    _apply_quirks(body, target.provider.quirks)
    if request.is_begun:
        _ask_to_continue(body, target.provider.quirks)
    _apply_streaming(body, request.stream, target.provider.quirks)
    try:
        encoded = encode(body)
    except ValueError as error:
        raise UnsupportedRequest("The request cannot be written as JSON.") from error
    return WireRequest("/chat/completions", encoded, HEADERS, ignored=tuple(dict.fromkeys(ignored)))


def _from_source(
    source: Mapping[str, Any], request: LLMRequest, model: ModelSpec
) -> dict[str, Any]:
    """The caller's own body, and what the route adds where it says nothing."""
    body = dict(source)
    if request.system_prompt:
        system = {"role": "system", "content": request.system_prompt}
        body["messages"] = [system, *body["messages"]]
    if body.get("max_completion_tokens") is None and body.get("max_tokens") is None:
        limit = _max_tokens(request, model)
        if limit is not None:
            body["max_tokens"] = limit
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


def _max_tokens(request: LLMRequest, model: ModelSpec) -> int | None:
    """What was asked, within what the model can write: a route is for models of all sizes."""
    if request.max_tokens is None or model.max_output_tokens is None:
        return request.max_tokens
    return min(request.max_tokens, model.max_output_tokens)


def _apply_model(
    body: dict[str, Any], model: ModelSpec, asked: Mapping[str, Any], ignored: list[str]
) -> None:
    """Takes out what the model refuses. What only the route set is not worth a mention."""
    if "no_sampling" not in model.capabilities:
        return
    for name in _SAMPLING:
        was_asked = asked.get(name) is not None
        if body.pop(name, None) is not None and was_asked:
            ignored.append(name)


def _apply_quirks(body: dict[str, Any], quirks: frozenset[str]) -> None:
    wanted, other = "max_tokens", "max_completion_tokens"
    if "max_completion_tokens" in quirks:
        wanted, other = other, wanted
    # Where a caller says both, the newer name is the one that counts.
    limit = body.pop("max_completion_tokens", None)
    older = body.pop("max_tokens", None)
    limit = older if limit is None else limit
    if limit is not None:
        body[wanted] = limit
    if "no_developer_role" in quirks:
        body["messages"] = [_without_developer(message) for message in body["messages"]]


def _ask_to_continue(body: dict[str, Any], quirks: frozenset[str]) -> None:
    """Says that the last message is an answer begun, where a vendor would not see it by itself.
    https://docs.mistral.ai/api, https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    """
    if "prefix_message" in quirks:
        *before, begun = body["messages"]
        body["messages"] = [*before, {**begun, "prefix": True}]
    if "continue_final_message" in quirks:
        body.update(continue_final_message=True, add_generation_prompt=False)


def _without_developer(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _apply_streaming(body: dict[str, Any], stream: bool, quirks: frozenset[str]) -> None:
    options = body.pop("stream_options", None)
    body.pop("stream", None)
    if not stream:
        return
    body["stream"] = True
    if "no_stream_usage" not in quirks:
        body["stream_options"] = {**(options or {}), "include_usage": True}


def _set(body: dict[str, Any], **values: Any) -> None:
    body.update((name, value) for name, value in values.items() if value is not None)


class _Builder:
    """Writes one canonical request; what has no word here goes to `ignored`."""

    def __init__(self, request: LLMRequest, model: ModelSpec, ignored: list[str]) -> None:
        self._request = request
        self._model = model
        self._ignored = ignored

    def build(self) -> dict[str, Any]:
        """The body, without model and streaming. Raises `UnsupportedRequest`."""
        request = self._request
        body: dict[str, Any] = {"messages": self._messages()}
        _set(
            body,
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=_max_tokens(request, self._model),
            stop=list(request.stop) or None,
            seed=request.seed,
            n=request.n if request.n > 1 else None,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            logprobs=request.logprobs or None,
            top_logprobs=request.top_logprobs,
            response_format=self._response_format(request.response_format),
            reasoning_effort=self._reasoning_effort(request.reasoning),
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
        # Results of tools are text here; their images follow as the user's, once the run of
        # results is over, since nothing may stand between those.
        images: list[dict[str, Any]] = []
        for message in self._request.messages:
            if images and message.role is not Role.TOOL:
                messages.append({"role": "user", "content": images})
                images = []
            match message.role:
                case Role.TOOL:
                    messages += [self._tool_message(part, images) for part in message.content]
                case Role.ASSISTANT:
                    messages.append(self._assistant_message(message))
                case Role.SYSTEM:
                    messages.append(_named(message, "\n".join(_texts(message.content))))
                case _:
                    messages.append(_named(message, _write_content(message.content)))
        if images:
            messages.append({"role": "user", "content": images})
        return messages

    def _tool_message(self, part: Part, images: list[dict[str, Any]]) -> dict[str, Any]:
        if not isinstance(part, ToolResultPart):
            raise UnsupportedRequest("OpenAI Chat Completions takes text alone as a tool's result.")
        if part.is_error:
            self._ignored.append("is_error")
        texts = [item.text for item in part.content if isinstance(item, TextPart)]
        images += [_write_image(item) for item in part.content if isinstance(item, ImagePart)]
        return {"role": "tool", "tool_call_id": part.call_id, "content": "\n".join(texts)}

    def _assistant_message(self, message: Message) -> dict[str, Any]:
        written = _named(message, message.text or None)
        calls: list[dict[str, Any]] = []
        refusals: list[str] = []
        for part in message.content:
            match part:
                case TextPart():
                    pass
                case ThinkingPart():
                    # Vendors of this format refuse it or pay it no heed.
                    self._ignored.append("thinking")
                case RefusalPart(text):
                    refusals.append(text)
                case ToolCallPart(call_id, name, arguments):
                    calls.append(write_tool_call(call_id, name, arguments or "{}"))
                case ForeignPart("openai_chat", {"type": "custom"} as call):
                    calls.append(dict(call))
                case ForeignPart("openai_chat", {"type": "audio", "audio": audio}):
                    written["audio"] = audio
                case _:
                    raise UnsupportedRequest(
                        "OpenAI Chat Completions has no word for a part of the assistant's turn."
                    )
        if refusals:
            written["refusal"] = "".join(refusals)
        if calls:
            written["tool_calls"] = calls
        elif written["content"] is None and not refusals:
            # Null is for turns of calls alone.
            written["content"] = ""
        return written

    def _response_format(self, wanted: ResponseFormat | None) -> dict[str, Any] | None:
        if wanted is None or wanted.kind is AnswerFormat.TEXT:
            return None
        if wanted.kind is AnswerFormat.JSON_OBJECT:
            return {"type": "json_object"}
        schema: dict[str, Any] = {"name": wanted.name or "answer"}
        strict = wanted.strict
        if strict and not is_strict(wanted.schema):
            # OpenAI refuses a strict schema that leaves anything open.
            self._ignored.append("response_format.strict")
            strict = False
        _set(schema, schema=wanted.schema, strict=strict, description=wanted.description)
        return {"type": "json_schema", "json_schema": schema}

    def _reasoning_effort(self, reasoning: Reasoning | None) -> str | None:
        if reasoning is None:
            return None
        capabilities = self._model.capabilities
        # A model that says nothing of its capabilities is believed to have them.
        if capabilities and "reasoning" not in capabilities:
            if reasoning.enabled:
                self._ignored.append("reasoning")
            return None
        if not reasoning.enabled:
            # Only some models know the effort `none`, and the others refuse it.
            self._ignored.append("reasoning")
            return None
        if reasoning.effort is not None or reasoning.budget_tokens is None:
            return reasoning.effort
        for budget, effort in _EFFORTS_BY_BUDGET:
            if reasoning.budget_tokens <= budget:
                return effort
        return "high"

    def _tool(self, tool: Tool | ForeignTool) -> dict[str, Any]:
        if isinstance(tool, ForeignTool):
            if tool.format != NAME:
                raise UnsupportedRequest(
                    f"OpenAI Chat Completions has no word for a tool of {tool.format}."
                )
            return dict(tool.data)
        function: dict[str, Any] = {"name": tool.name}
        _set(function, description=tool.description, parameters=tool.parameters or None)
        if tool.strict and is_strict(tool.parameters):
            function["strict"] = True
        elif tool.strict:
            self._ignored.append("tools.strict")
        return {"type": "function", "function": function}

    def _user(self) -> str | None:
        user = self._request.user
        if user is not None and len(user) > MAX_USER_CHARACTERS:
            self._ignored.append("user")
            return None
        return user


def _named(message: Message, content: Any) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role.value, "content": content}
    _set(written, name=message.name)
    return written


def _texts(parts: Iterable[Part]) -> list[str]:
    texts: list[str] = []
    for part in parts:
        if not isinstance(part, TextPart):
            raise UnsupportedRequest("OpenAI Chat Completions takes text alone as system message.")
        texts.append(part.text)
    return texts


def _write_content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """A user's content: a string where it is one text, which every vendor reads, else parts."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return [_write_part(part) for part in parts]


def _write_part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart():
            return _write_image(part)
        case ForeignPart("openai_chat", data):
            return dict(data)
        case _:
            raise UnsupportedRequest(
                "OpenAI Chat Completions has no word for a part of the user's turn."
            )


def _write_image(image: ImagePart) -> dict[str, Any]:
    url = image.url
    if image.data is not None:
        if image.media_type is None:
            raise UnsupportedRequest("An inline image needs its media type.")
        url = f"data:{image.media_type};base64,{image.data}"
    written = {"url": url}
    _set(written, detail=image.detail)
    return {"type": "image_url", "image_url": written}


def write_tool_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call of a function, as requests and answers write it."""
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
