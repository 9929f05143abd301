"""Reads and writes complete answers of Anthropic Messages, with helpers for streams.

Source: https://platform.claude.com/docs/en/api/messages
"""

from typing import Any, Final

from llm_routing.core.codec import TooManyValues, decode_repaired, encode
from llm_routing.core.content import (
    ForeignPart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from llm_routing.core.errors import AnswerTooLarge, InvalidRequest, MalformedAnswer
from llm_routing.core.types import (
    MAX_TOKEN_COUNT,
    Choice,
    Completion,
    FinishReason,
    LLMResponse,
)
from llm_routing.formats.base import MAX_ANSWER_PARTS, NO_DEFAULTS, AnswerDefaults, check_count
from llm_routing.formats.fields import Fields
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.usage import repair_usage

from .blocks import message_id, read_block, tool_id_for_caller, tool_input
from .errors import error_in_answer
from .repair import UnexpectedShape, repair_block, repair_message
from .usage import merged_counts, read_usage, write_usage

_FINISH_REASONS: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP_SEQUENCE,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.REFUSAL,
    "pause_turn": FinishReason.PAUSE,
}
_STOP_REASONS: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.STOP_SEQUENCE: "stop_sequence",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.REFUSAL: "refusal",
    FinishReason.PAUSE: "pause_turn",
}


def decoded(body: bytes) -> Any:
    """Returns the value of a 2xx body. Raises `MalformedAnswer`, or the error inside it."""
    return _decoded(body)[0]


def _decoded(body: bytes) -> tuple[Any, bool]:
    """Returns the value of a 2xx body, and whether it had to be repaired to be decoded."""
    try:
        value, is_repaired = decode_repaired(body)
    except TooManyValues:
        raise AnswerTooLarge("The answer holds too many values.") from None
    except ValueError as error:
        raise MalformedAnswer("The answer is not JSON.") from error
    if isinstance(value, dict) and value.get("type") == "error":
        raise error_in_answer(value)
    return value, is_repaired


def read_response(body: bytes, defaults: AnswerDefaults = NO_DEFAULTS) -> Completion:
    """Returns the completion of a 2xx body. Raises `MalformedAnswer`, or the error inside it."""
    value, is_rewritten = _decoded(body)
    try:
        message = Fields(value)
        answer_id, model = message.string("id") or "", message.string("model") or ""
        is_rewritten = repair_usage(value) or is_rewritten
        usage = value.get("usage")
        is_rewritten = _repair(value, defaults) or is_rewritten
        content = [read_block(block) for block in _blocks(message)]
        content += [RefusalPart(words) for words in refusal_texts(message)]
        stop_reason = message.string("stop_reason")
        choice = Choice(
            content=tuple(content),
            finish_reason=finish_reason(stop_reason) if stop_reason else None,
            stop_sequence=message.string("stop_sequence"),
        )
        return Completion(
            id=answer_id,
            model=model,
            choices=(choice,),
            usage=read_usage(merged_counts({}, usage)),
            format=ANTHROPIC_MESSAGES,
            raw=encode(value) if is_rewritten else body,
        )
    except (InvalidRequest, UnexpectedShape) as error:
        raise MalformedAnswer(f"The answer is not a message: {error}") from error


def _repair(message: dict[str, Any], defaults: AnswerDefaults) -> bool:
    """Repairs a complete message in place. Returns whether anything was changed."""
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = content = [{"type": "text", "text": content}]
        is_changed = True
    elif isinstance(content, list):
        check_count("blocks", len(content), MAX_ANSWER_PARTS)
        is_changed = False
    else:
        raise UnexpectedShape("it has no content")
    answer_id = message.get("id")
    for number, block in enumerate(content):
        is_changed = repair_block(block, f"{answer_id}/{number}") or is_changed
    return repair_message(message, defaults) or is_changed


def _blocks(message: Fields) -> tuple[Fields, ...]:
    message.required("content")
    return message.objects("content")


def finish_reason(stop_reason: str) -> FinishReason:
    """Returns what a `stop_reason` means; an unknown one means a normal end."""
    return _FINISH_REASONS.get(stop_reason, FinishReason.STOP)


def refusal_texts(owner: Fields) -> tuple[str, ...]:
    """Returns the explanation in `stop_details` of a message or a `message_delta`, if any."""
    details = owner.object("stop_details")
    words = details.string("explanation") if details else None
    return (words,) if words else ()


def stop_reason_for(reason: FinishReason | None, *, called_tools: bool, refused: bool) -> str:
    """Returns the `stop_reason` for a caller. Some vendors call tools or refuse and say `stop`."""
    if reason in (None, FinishReason.STOP):
        if refused:
            return "refusal"
        if called_tools:
            return "tool_use"
        return "end_turn"
    return _STOP_REASONS[reason]


def stop_fields(stop_reason: str, stop_sequence: str | None) -> dict[str, Any]:
    """Returns the fields of a message or a `message_delta` about the stop. The text of a refusal is
    in the content, as it was when it streamed."""
    fields: dict[str, Any] = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
    if stop_reason == "refusal":
        fields["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
    return fields


def write_response(response: LLMResponse) -> bytes:
    """Returns the caller's body: the vendor's own bytes if they are in this format."""
    completion = response.completion
    if completion.format == ANTHROPIC_MESSAGES and completion.raw:
        return completion.raw
    choice = completion.choices[0] if completion.choices else Choice((), None)
    stop_reason = stop_reason_for(
        choice.finish_reason,
        called_tools=bool(choice.tool_calls),
        refused=any(isinstance(part, RefusalPart) for part in choice.content),
    )
    return encode(
        {
            "id": message_id(completion.id or response.routing.request_id),
            "type": "message",
            "role": "assistant",
            "model": completion.model or response.routing.model,
            "content": [block for part in choice.content if (block := _render_block(part))],
            **stop_fields(stop_reason, choice.stop_sequence),
            "usage": write_usage(completion.usage),
        }
    )


def _render_block(part: Part) -> dict[str, Any] | None:
    """Returns the block for the caller, or None for what an answer of this format cannot hold."""
    match part:
        case TextPart(text) | RefusalPart(text):
            return {"type": "text", "text": text} if text else None
        case ThinkingPart(redacted=str(data)):
            return {"type": "redacted_thinking", "data": data}
        case ThinkingPart(text, signature):
            return {"type": "thinking", "thinking": text, "signature": signature or ""}
        case ToolCallPart(call_id, name, arguments):
            return {
                "type": "tool_use",
                "id": tool_id_for_caller(call_id),
                "name": name,
                "input": tool_input(arguments),
            }
        case ForeignPart(format_name, data) if format_name == ANTHROPIC_MESSAGES:
            return dict(data)
        case _:
            return None


def read_count_tokens(body: bytes) -> int:
    """Returns the number in a 2xx body of `count_tokens`. Raises as `read_response`."""
    value = decoded(body)
    try:
        return Fields(value).required_integer("input_tokens", 0, MAX_TOKEN_COUNT)
    except InvalidRequest as error:
        raise MalformedAnswer("The answer contains no token count.") from error


def write_count_tokens(count: int) -> bytes:
    """Returns the body of an answer to `count_tokens`."""
    return encode({"input_tokens": count})
