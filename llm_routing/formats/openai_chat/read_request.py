"""Reads callers' requests of OpenAI Chat Completions into canonical form.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from llm_routing.core.content import (
    CACHE_MARKABLE_PARTS,
    AnswerFormat,
    FilePart,
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
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.types import LLMRequest, Source
from llm_routing.formats.data_urls import PDF, part_of_data, split_data_url
from llm_routing.formats.fields import Fields, read_cache_control
from llm_routing.formats.names import OPENAI_CHAT

_ROLES: Final[Mapping[str, Role]] = {
    "developer": Role.SYSTEM,
    "system": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    # Deprecated, like `functions` and `function_call`. It is relayed to vendors of this format;
    # others cannot be asked, because the answer would need a `function_call` too.
    "function": Role.TOOL,
}
_PLAIN_ROLES: Final = frozenset(("developer", "system", "user"))
_CHOICE_MODES: Final[Mapping[str, ToolChoiceMode]] = {
    "auto": ToolChoiceMode.AUTO,
    "none": ToolChoiceMode.NONE,
    "required": ToolChoiceMode.REQUIRED,
    # Mistral: https://docs.mistral.ai/api/endpoint/chat
    "any": ToolChoiceMode.REQUIRED,
}
_ANSWER_FORMATS: Final = tuple(kind.value for kind in AnswerFormat)


def read_request(body: Any) -> LLMRequest:
    """Returns the canonical request of a body of `POST /v1/chat/completions`. Raises
    `InvalidRequest`."""
    fields = Fields(body)
    model = fields.required_string("model")
    if not model:
        raise fields.invalid("model", "must not be empty")
    given = fields.array("messages")
    if given is None:
        raise fields.invalid("messages", "is required")
    # A list is faster to build than a tuple from a generator.
    messages = [
        _plain_message(message) or _read_message(Fields(message, f"messages.{index}"))
        for index, message in enumerate(given)
    ]
    if not messages:
        raise fields.invalid("messages", "must not be empty")
    read: dict[str, Any] = {}
    # Fields that are absent cost nothing.
    for name in fields.value:
        reader = _READERS.get(name)
        if reader is not None:
            read.update(reader(fields))
    return LLMRequest(tuple(messages), model, source=Source(OPENAI_CHAT, fields.value), **read)


def _plain_message(message: Any) -> Message | None:
    """Returns a message that is plain text, as most are, or None for any other."""
    if type(message) is not dict or len(message) != 2:
        return None
    role, content = message.get("role"), message.get("content")
    if type(content) is not str or type(role) is not str or role not in _PLAIN_ROLES:
        return None
    return Message(_ROLES[role], (TextPart(content),))


def _read_message(message: Fields) -> Message:
    message.required("role")
    role = _ROLES[message.choice("role", _ROLES) or ""]
    name = message.string("name")
    parts: tuple[Part, ...]
    match role:
        case Role.ASSISTANT:
            parts = tuple(_read_assistant_parts(message))
        case Role.TOOL if message.get("role") == "function":
            message.required_string("name")
            parts = (ForeignPart(OPENAI_CHAT, message.value),)
        case Role.TOOL:
            parts = (_read_tool_result(message),)
        case _:
            message.required("content")
            parts = tuple(_read_content(message))
    return Message(role, _marked_at_the_end(parts, read_cache_control(message)), name)


def _marked_at_the_end(parts: tuple[Part, ...], mark: Mapping[str, Any] | None) -> tuple[Part, ...]:
    """Returns the parts with the `cache_control` of the whole message on the last part that can
    have one. Without such a part there is nothing to cache."""
    if mark is None:
        return parts
    for place in reversed(range(len(parts))):
        part = parts[place]
        if isinstance(part, CACHE_MARKABLE_PARTS):
            return (*parts[:place], replace(part, cache_control=mark), *parts[place + 1 :])
    return parts


def _read_content(message: Fields) -> Iterator[Part]:
    """Yields the parts of `content`: a string or an array of typed parts; none if it is missing."""
    content = message.get("content")
    if content is None:
        return
    if isinstance(content, str):
        yield TextPart(content)
        return
    if not isinstance(content, list):
        raise message.invalid("content", "must be a string or an array of parts")
    for part in message.objects("content"):
        yield _read_part(part)


def _read_part(part: Fields) -> Part:
    match part.required_string("type"):
        case "text":
            return TextPart(part.required_string("text"), read_cache_control(part))
        case "image_url":
            return _marked_at_the_end((_read_image(part),), read_cache_control(part))[0]
        case "file":
            return _marked_at_the_end((_read_file(part),), read_cache_control(part))[0]
        case "refusal":
            return RefusalPart(part.required_string("refusal"))
        case _:
            return ForeignPart(OPENAI_CHAT, part.value)


def _read_image(part: Fields) -> Part:
    # Some clients write the URL without the object around it.
    owner = part if isinstance(part.get("image_url"), str) else part.required_object("image_url")
    name = "image_url" if owner is part else "url"
    url = owner.required_string(name)
    detail = owner.string("detail")
    if not url.startswith("data:"):
        return ImagePart(url=url, detail=detail)
    found = split_data_url(url)
    if found is None:
        raise owner.invalid(name, "must be a URL or data:<media type>;base64,<data>")
    media_type, data = found
    if media_type == PDF:
        return FilePart(data=data)
    return ImagePart(data=data, media_type=media_type, detail=detail)


def _read_file(part: Fields) -> Part:
    """Reads a file (https://platform.openai.com/docs/guides/pdf-files). A file that is known only
    by its id stays with its vendor."""
    file = part.object("file")
    data = file.string("file_data") if file else None
    if file is None or data is None:
        return ForeignPart(OPENAI_CHAT, part.value)
    found = split_data_url(data) if data.startswith("data:") else (PDF, data)
    read = found and part_of_data(*found, file.string("filename"))
    if read is None:
        raise file.invalid("file_data", "must be data:<media type>;base64,<data>")
    return read


def _read_assistant_parts(message: Fields) -> Iterator[Part]:
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str) and thinking:
        yield ThinkingPart(thinking)
    yield from _read_content(message)
    refusal = message.string("refusal")
    if refusal:
        yield RefusalPart(refusal)
    audio = message.object("audio")
    if audio is not None:
        yield ForeignPart(OPENAI_CHAT, {"type": "audio", "audio": audio.value})
    for call in message.objects("tool_calls"):
        yield _read_tool_call(call)
    function = message.object("function_call")
    if function is not None:
        yield ForeignPart(OPENAI_CHAT, {"type": "function_call", "function_call": function.value})


def _read_tool_call(call: Fields) -> Part:
    call_id = call.required_string("id")
    if (call.string("type") or "function") != "function":
        return ForeignPart(OPENAI_CHAT, call.value)
    function = call.required_object("function")
    return ToolCallPart(
        id=call_id,
        name=function.required_string("name"),
        arguments=function.string("arguments") or "",
    )


def _read_tool_result(message: Fields) -> ToolResultPart:
    call_id = message.required_string("tool_call_id")
    message.required("content")
    parts = tuple(_read_content(message))
    content = tuple(part for part in parts if isinstance(part, TextPart | ImagePart | FilePart))
    if len(content) < len(parts):
        raise message.invalid("content", "may contain only text, images and files")
    return ToolResultPart(call_id, content)


def _read_tools(fields: Fields) -> tuple[tuple[Tool | ForeignTool, ...], ToolChoice | None]:
    """Returns the tools and the tool choice. Tools that `allowed_tools` excludes are left out,
    which is equivalent for the model."""
    tools = tuple(_read_tool(tool) for tool in fields.objects("tools"))
    choice = fields.get("tool_choice")
    if choice is None or isinstance(choice, str):
        mode = fields.choice("tool_choice", _CHOICE_MODES)
        return tools, ToolChoice(_CHOICE_MODES[mode]) if mode else None
    chosen = fields.required_object("tool_choice")
    match chosen.required_string("type"):
        case "allowed_tools":
            allowed = chosen.required_object("allowed_tools")
            mode = allowed.choice("mode", _CHOICE_MODES) or "auto"
            names = {_tool_name(tool) for tool in allowed.objects("tools")}
            kept = tuple(
                tool for tool in tools if isinstance(tool, ForeignTool) or tool.name in names
            )
            return kept, ToolChoice(_CHOICE_MODES[mode])
        case "function" | "custom":
            return tools, ToolChoice(ToolChoiceMode.NAMED, _tool_name(chosen))
        case _:
            raise chosen.invalid("type", "must be one of function, custom, allowed_tools")


def _tool_name(tool: Fields) -> str:
    return tool.required_object(tool.required_string("type")).required_string("name")


def _read_tool(tool: Fields) -> Tool | ForeignTool:
    if tool.required_string("type") != "function":
        return ForeignTool(OPENAI_CHAT, tool.value)
    function = tool.required_object("function")
    parameters = function.object("parameters")
    return Tool(
        name=function.required_string("name"),
        description=function.string("description"),
        parameters=parameters.value if parameters else {},
        strict=function.boolean("strict"),
        cache_control=read_cache_control(tool),
    )


def _read_stop(fields: Fields) -> tuple[str, ...]:
    stop = fields.get("stop")
    if isinstance(stop, str):
        return (stop,)
    if stop is not None and not isinstance(stop, list):
        raise fields.invalid("stop", "must be a string or an array of strings")
    return fields.strings("stop")


def _read_response_format(fields: Fields) -> ResponseFormat | None:
    wanted = fields.object("response_format")
    if wanted is None:
        return None
    wanted.required("type")
    kind = AnswerFormat(wanted.choice("type", _ANSWER_FORMATS) or "")
    if kind is not AnswerFormat.JSON_SCHEMA:
        return ResponseFormat(kind)
    schema = wanted.required_object("json_schema")
    definition = schema.object("schema")
    return ResponseFormat(
        kind,
        name=schema.required_string("name"),
        schema=definition.value if definition else None,
        strict=schema.boolean("strict"),
        description=schema.string("description"),
    )


def _read_reasoning(fields: Fields) -> Reasoning | None:
    """Reads `reasoning_effort`, OpenRouter's `reasoning`
    (https://openrouter.ai/docs/use-cases/reasoning-tokens) or the `thinking` of Anthropic and
    DeepSeek (https://api-docs.deepseek.com/guides/thinking_mode)."""
    effort = fields.string("reasoning_effort")
    asked, thinking = fields.get("reasoning"), fields.get("thinking")
    if effort == "none" or (isinstance(thinking, dict) and thinking.get("type") == "disabled"):
        return Reasoning(enabled=False)
    if effort is not None:
        return Reasoning(effort=effort)
    if not isinstance(asked, dict):
        if not isinstance(thinking, dict):
            return None
        budget = Fields(thinking, "thinking").integer("budget_tokens", 1)
        return Reasoning(budget_tokens=budget)
    reasoning = Fields(asked, "reasoning")
    effort = reasoning.string("effort")
    if effort == "none" or reasoning.boolean("enabled") is False:
        return Reasoning(enabled=False)
    return Reasoning(effort=effort, budget_tokens=reasoning.integer("max_tokens", 1))


def _read_metadata(fields: Fields) -> Mapping[str, str]:
    metadata = fields.object("metadata")
    if metadata is None:
        return {}
    for name, value in metadata.value.items():
        if not isinstance(value, str):
            raise InvalidRequest("metadata may contain only strings.", field=metadata.at(name))
    return metadata.value


def _read_max_tokens(fields: Fields) -> Mapping[str, Any]:
    older = fields.integer("max_tokens", 1)
    limit = fields.integer("max_completion_tokens", 1)
    return {"max_tokens": older if limit is None else limit}


def _read_top_k(fields: Fields) -> Mapping[str, Any]:
    top_k = fields.integer("top_k")
    # vLLM writes -1 for no limit.
    return {"top_k": top_k if top_k is not None and top_k > 0 else None}


def _read_tools_and_choice(fields: Fields) -> Mapping[str, Any]:
    tools, tool_choice = _read_tools(fields)
    functions = tuple(
        ForeignTool(OPENAI_CHAT, {"type": "function", "function": function.value})
        for function in fields.objects("functions")
    )
    return {"tools": (*tools, *functions), "tool_choice": tool_choice}


def _read_reasoning_either(fields: Fields) -> Mapping[str, Any]:
    return {"reasoning": _read_reasoning(fields)}


def _read_user(fields: Fields) -> Mapping[str, Any]:
    return {"user": fields.string("user") or fields.string("safety_identifier")}


def _read_stream_options(fields: Fields) -> Mapping[str, Any]:
    options = fields.object("stream_options")
    asks = options is not None and options.boolean("include_usage") is True
    return {"include_usage": asks}


_READERS: Final[Mapping[str, Callable[[Fields], Mapping[str, Any]]]] = {
    "temperature": lambda fields: {"temperature": fields.number("temperature", 0, 2)},
    "top_p": lambda fields: {"top_p": fields.number("top_p", 0, 1)},
    "top_k": _read_top_k,
    "max_tokens": _read_max_tokens,
    "max_completion_tokens": _read_max_tokens,
    "stop": lambda fields: {"stop": _read_stop(fields)},
    "seed": lambda fields: {"seed": fields.integer("seed")},
    "n": lambda fields: {"n": fields.integer("n", 1, 128) or 1},
    "frequency_penalty": lambda fields: {
        "frequency_penalty": fields.number("frequency_penalty", -2, 2)
    },
    "presence_penalty": lambda fields: {
        "presence_penalty": fields.number("presence_penalty", -2, 2)
    },
    "logprobs": lambda fields: {"logprobs": fields.boolean("logprobs") or False},
    "top_logprobs": lambda fields: {"top_logprobs": fields.integer("top_logprobs", 0)},
    "tools": _read_tools_and_choice,
    "functions": _read_tools_and_choice,
    "tool_choice": _read_tools_and_choice,
    "parallel_tool_calls": lambda fields: {
        "parallel_tool_calls": fields.boolean("parallel_tool_calls")
    },
    "response_format": lambda fields: {"response_format": _read_response_format(fields)},
    "reasoning_effort": _read_reasoning_either,
    "reasoning": _read_reasoning_either,
    "thinking": _read_reasoning_either,
    "user": _read_user,
    "safety_identifier": _read_user,
    "stream": lambda fields: {"stream": fields.boolean("stream") or False},
    "stream_options": _read_stream_options,
    "metadata": lambda fields: {"metadata": _read_metadata(fields)},
}
"""The reader of each field of the body, by name."""
