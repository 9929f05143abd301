"""Reads and writes complete answers of OpenAI Chat Completions, with helpers for streams.

Source: https://platform.openai.com/docs/api-reference/chat/object, and the deviations of vendors.
"""

from collections.abc import Iterator, Mapping
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
from llm_routing.core.errors import (
    AnswerTooLarge,
    MalformedAnswer,
    ServerFailed,
    UpstreamError,
    UpstreamOverloaded,
)
from llm_routing.core.json_size import ANSWER_LIMITS, JsonLimits
from llm_routing.core.types import (
    Choice,
    Completion,
    FinishReason,
    LLMResponse,
    Usage,
)
from llm_routing.formats.base import MAX_ANSWER_PARTS, NO_DEFAULTS, AnswerDefaults, check_count
from llm_routing.formats.lenient import text_of
from llm_routing.formats.names import OPENAI_CHAT
from llm_routing.formats.tool_arguments import arguments_exceed
from llm_routing.formats.tool_ids import signature_in, split_signature, with_signature
from llm_routing.formats.usage import repair_usage

from .errors import error_in_answer
from .plain_response import read_plain_response
from .repair import (
    ANSWER,
    MAX_CHOICES,
    answer_id_for_caller,
    calls_in,
    function_of,
    made_call_id,
    repair_choice_extras,
    repair_envelope,
    repair_function,
    repair_index,
    repair_texts,
    unreadable,
)
from .usage import read_usage, read_vendor_cost, write_usage
from .write_request import write_tool_call

NO_FINGERPRINT: Final = ""
"""The `system_fingerprint` of answers from other formats: clients that check types want a text."""

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    # Mistral; Gemini and similar.
    "model_length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "safety": FinishReason.CONTENT_FILTER,
    "recitation": FinishReason.CONTENT_FILTER,
    "prohibited_content": FinishReason.CONTENT_FILTER,
}
OPENAI_FINISHES: Final = frozenset(
    ("stop", "length", "tool_calls", "function_call", "content_filter")
)
# Finish reasons that are failures: of OpenRouter and Mistral, vLLM, DeepSeek.
_FAILED_FINISHES: Final[Mapping[str, type[UpstreamError]]] = {
    "error": ServerFailed,
    "abort": ServerFailed,
    "insufficient_system_resource": UpstreamOverloaded,
}
_WRITTEN_REASONS: Final[Mapping[FinishReason | None, str]] = {
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
}


def read_response(body: bytes, defaults: AnswerDefaults = NO_DEFAULTS) -> Completion:
    """Returns the completion of a 2xx body. Raises `UpstreamError`."""
    plain = read_plain_response(body)
    if plain is not None:
        return plain
    return read_and_repair(body, defaults)


def read_and_repair(body: bytes, defaults: AnswerDefaults = NO_DEFAULTS) -> Completion:
    """Does the same as `read_response`, also for answers that need no repair."""
    answer, is_rewritten = _decoded_answer(body)
    vendor_cost = read_vendor_cost(answer.get("usage"), body)
    if repair_usage(answer):
        is_rewritten = True
    given = answer.get("choices")
    if not isinstance(given, list) or not given:
        raise MalformedAnswer("The provider's answer has no choices.")
    if len(given) > MAX_CHOICES:
        raise MalformedAnswer(f"The provider's answer has more than {MAX_CHOICES} choices.")
    answer_id, model = text_of(answer.get("id")), text_of(answer.get("model"))
    is_rewritten = repair_envelope(answer, ANSWER, defaults) or is_rewritten
    choices: list[Choice] = []
    for position, choice in enumerate(given):
        is_rewritten = _repair_choice(choice, position, answer["id"]) or is_rewritten
        choices.append(_read_choice(choice))
        is_rewritten = repair_finish(choice) or is_rewritten
        if choice.get("finish_reason") is None:
            choice["finish_reason"] = write_finish_reason(choices[-1].finish_reason)
            is_rewritten = True
    parts = [part for choice in choices for part in choice.content]
    check_count("parts", len(parts), MAX_ANSWER_PARTS)
    if arguments_exceed(parts, ANSWER_LIMITS):
        raise AnswerTooLarge("The arguments of the answer's tool calls hold too many values.")
    return Completion(
        id=answer_id,
        model=model,
        choices=tuple(choices),
        usage=read_usage(answer.get("usage"), vendor_cost),
        format=OPENAI_CHAT,
        raw=encode(answer) if is_rewritten else body,
    )


def decode_answer(body: bytes, limits: JsonLimits = ANSWER_LIMITS) -> dict[str, Any]:
    """Returns the object in a 2xx body. Raises `MalformedAnswer`, or the error inside it."""
    return _decoded_answer(body, limits)[0]


def _decoded_answer(body: bytes, limits: JsonLimits = ANSWER_LIMITS) -> tuple[dict[str, Any], bool]:
    """Returns the object in a 2xx body, and whether it had to be repaired to be decoded."""
    try:
        answer, is_repaired = decode_repaired(body, limits)
    except TooManyValues:
        raise AnswerTooLarge("The provider's answer holds too many values.") from None
    except ValueError:
        kind = "a web page" if body.lstrip()[:1] == b"<" else "no JSON"
        raise MalformedAnswer(f"The provider's answer is {kind}.") from None
    # Google's errors come as an array.
    if isinstance(answer, list) or is_error(answer):
        raise error_in_answer(answer)
    if not isinstance(answer, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    return answer, is_repaired


def is_error(answer: Any) -> bool:
    """Returns whether an answer, or a chunk of one, is an error."""
    return isinstance(answer, dict) and bool(answer.get("error") or answer.get("object") == "error")


def _repair_choice(choice: Any, position: int, answer_id: str) -> bool:
    """Repairs a choice of a complete answer in place. Returns whether anything was changed. Raises
    `MalformedAnswer`."""
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise MalformedAnswer("A choice of the provider's answer has no message.")
    changed = repair_index(choice, position)
    changed = repair_choice_extras(choice) or changed
    if message.get("role") != "assistant":
        message["role"] = "assistant"
        changed = True
    if "content" not in message:
        message["content"] = None
        changed = True
    changed = repair_texts(message, is_delta=False) or changed
    calls, dropped = calls_in(message)
    changed = changed or dropped
    for number, call in enumerate(calls):
        called, was_repaired = function_of(call, is_begun=True)
        _require_name(called)
        changed = was_repaired or changed
        if not isinstance(call.get("id"), str) or not call["id"]:
            call["id"] = made_call_id(f"{answer_id}/{choice['index']}/{number}")
            changed = True
    if (function := message.get("function_call")) is not None:
        if not isinstance(function, dict):
            raise unreadable("a function call")
        changed = repair_function(function, "arguments", is_begun=True) or changed
        _require_name(function)
    return changed


def _require_name(function: Mapping[str, Any]) -> None:
    """Raises `MalformedAnswer` for a call without a function name, which cannot be executed."""
    if not function["name"]:
        raise unreadable("a tool call without a name")


def _read_choice(choice: dict[str, Any]) -> Choice:
    message = choice["message"]
    parts = tuple(_read_parts(message))
    calls_tools = any(isinstance(part, ToolCallPart) for part in parts)
    return Choice(
        content=parts,
        finish_reason=read_finish_reason(choice, calls_tools),
        index=choice["index"],
        logprobs=choice.get("logprobs"),
    )


def _read_parts(message: Mapping[str, Any]) -> Iterator[Part]:
    thinking, text = read_text(message)
    if thinking:
        yield ThinkingPart(thinking)
    if text:
        yield TextPart(text)
    if refusal := message.get("refusal"):
        yield RefusalPart(refusal)
    for call in message.get("tool_calls") or ():
        if call.get("custom"):
            yield ForeignPart(OPENAI_CHAT, call)
            continue
        function = call["function"]
        call_id = with_signature(call["id"], signature_in(call))
        yield ToolCallPart(call_id, function["name"], function["arguments"])
    if function := message.get("function_call"):
        call_id = made_call_id(f"{function['name']}/{function['arguments']}")
        yield ToolCallPart(call_id, function["name"], function["arguments"])


def read_text(message: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the reasoning and the text of a repaired message or delta; both may be empty.

    Reasoning is `reasoning_content` (DeepSeek, vLLM), `reasoning` (OpenRouter, Groq, newer vLLM) or
    `thinking` (Ollama).
    """
    thinking = (
        message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
    )
    return thinking or "", message.get("content") or ""


def repair_finish(choice: dict[str, Any]) -> bool:
    """Replaces another vendor's finish reason by OpenAI's. Returns whether it was replaced. Call it
    after reading the reason, because the vendor's own says more."""
    reason = choice.get("finish_reason")
    if reason is None or reason in OPENAI_FINISHES:
        return False
    choice["finish_reason"] = (
        write_finish_reason(_FINISH_REASONS.get(reason.lower(), FinishReason.STOP))
        if reason
        else None
    )
    return True


def read_finish_reason(choice: Mapping[str, Any], calls_tools: bool) -> FinishReason | None:
    """Returns why the choice ended, or None if it has not. Raises `UpstreamError` for a finish
    reason that is a failure.

    Some vendors say `stop` after tool calls, and OpenAI does if a tool was forced.
    """
    if is_error(choice):
        raise error_in_answer(choice)
    reason = text_of(choice.get("finish_reason")).lower()
    if not reason:
        return None
    if reason in _FAILED_FINISHES:
        raise _FAILED_FINISHES[reason](
            f"The provider stopped in the middle of its answer ({reason.replace('_', ' ')})."
        )
    finish = _FINISH_REASONS.get(reason, FinishReason.STOP)
    return FinishReason.TOOL_CALLS if calls_tools and finish is FinishReason.STOP else finish


def call_id_for_caller(call_id: str) -> str:
    """Returns a call id that looks like OpenAI's; equal ids give equal results."""
    plain, signature = split_signature(call_id)
    return with_signature(plain if plain.startswith("call_") else made_call_id(plain), signature)


def write_response(response: LLMResponse, *, created: int = 0) -> bytes:
    """Returns the caller's body: the vendor's own bytes if they are in this format."""
    completion = response.completion
    if completion.format == OPENAI_CHAT and completion.raw:
        return completion.raw
    answer: dict[str, Any] = {
        "id": answer_id_for_caller(completion.id or response.routing.request_id),
        "object": "chat.completion",
        "created": created,
        "model": completion.model or response.routing.model,
        "choices": [_write_choice(choice) for choice in completion.choices],
        "usage": write_usage(completion.usage or Usage()),
        "system_fingerprint": NO_FINGERPRINT,
    }
    return encode(answer)


def _write_choice(choice: Choice) -> dict[str, Any]:
    thinking = "".join(part.text for part in choice.content if isinstance(part, ThinkingPart))
    refusal = "".join(part.text for part in choice.content if isinstance(part, RefusalPart))
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text or None,
        "refusal": refusal or None,
        "annotations": [],
    }
    if thinking:
        message["reasoning_content"] = thinking
    if choice.tool_calls:
        message["tool_calls"] = [
            write_tool_call(call_id_for_caller(call.id), call.name, call.arguments)
            for call in choice.tool_calls
        ]
    elif not refusal:
        message["content"] = choice.text
    return {
        "index": choice.index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": write_finish_reason(choice.finish_reason),
    }


def write_finish_reason(reason: FinishReason | None) -> str:
    """Returns the reason as one of OpenAI's four."""
    return _WRITTEN_REASONS.get(reason, "stop")
