"""Whole answers of OpenAI Chat Completions, read and written, and what streams share with them.

Source: https://platform.openai.com/docs/api-reference/chat/object, and what vendors add to it or
leave out.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from llm_routing.core.codec import decode, encode
from llm_routing.core.content import (
    ForeignPart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from llm_routing.core.errors import (
    MalformedAnswer,
    ServerFailed,
    UpstreamError,
    UpstreamOverloaded,
)
from llm_routing.core.types import (
    MOST_TOKENS,
    Choice,
    Completion,
    FinishReason,
    LLMResponse,
    Usage,
)

from .openai_chat_build import write_tool_call
from .openai_chat_request import NAME
from .openai_errors import error_in_answer
from .tool_ids import signature_in, split_signature, with_signature

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    # Mistral; Gemini and its kin.
    "model_length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "safety": FinishReason.CONTENT_FILTER,
    "recitation": FinishReason.CONTENT_FILTER,
    "prohibited_content": FinishReason.CONTENT_FILTER,
}
# A finish that is none: OpenRouter and Mistral, vLLM, DeepSeek.
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
_DIGEST_LENGTH: Final = 24


def parse_response(body: bytes) -> Completion:
    """The completion of a 2xx body. Raises `UpstreamError`."""
    answer = decode_answer(body)
    if drop_impossible_usage(answer):
        body = encode(answer)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedAnswer("The provider's answer has no choices.")
    answer_id = text_of(answer.get("id"))
    return Completion(
        id=answer_id,
        model=text_of(answer.get("model")),
        choices=tuple(
            [_read_choice(choice, position, answer_id) for position, choice in enumerate(choices)]
        ),
        usage=read_usage(answer.get("usage")),
        format=NAME,
        raw=body,
    )


def decode_answer(body: bytes) -> dict[str, Any]:
    """The object in a 2xx body. Raises `MalformedAnswer`, or the error inside it."""
    try:
        answer = decode(body)
    except ValueError:
        kind = "a web page" if body.lstrip()[:1] == b"<" else "no JSON"
        raise MalformedAnswer(f"The provider's answer is {kind}.") from None
    # Google's errors come as an array.
    if isinstance(answer, list) or is_error(answer):
        raise error_in_answer(answer)
    if not isinstance(answer, dict):
        raise MalformedAnswer("The provider's answer is no JSON object.")
    return answer


def is_error(answer: Any) -> bool:
    """Whether an answer, or a chunk of one, is an error."""
    return isinstance(answer, dict) and bool(answer.get("error") or answer.get("object") == "error")


def _read_choice(choice: Any, position: int, answer_id: str) -> Choice:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise MalformedAnswer("A choice of the provider's answer has no message.")
    index = choice.get("index")
    index = index if isinstance(index, int) else position
    parts = tuple(_read_parts(message, f"{answer_id}/{index}"))
    calls_tools = bool(message.get("tool_calls")) and any(
        isinstance(part, ToolCallPart) for part in parts
    )
    logprobs = choice.get("logprobs")
    return Choice(
        content=parts,
        finish_reason=read_finish_reason(choice, calls_tools),
        index=index,
        logprobs=logprobs if isinstance(logprobs, dict) else None,
    )


def _read_parts(message: Mapping[str, Any], seed: str) -> Iterator[Part]:
    thinking, text = read_text(message)
    if thinking:
        yield ThinkingPart(thinking)
    if text:
        yield TextPart(text)
    refusal = text_of(message.get("refusal"))
    if refusal:
        yield RefusalPart(refusal)
    for number, call in enumerate(objects_of(message.get("tool_calls"))):
        if text_of(call.get("type")) == "custom":
            yield ForeignPart(NAME, call)
            continue
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        yield ToolCallPart(
            id=with_signature(
                text_of(call.get("id")) or made_call_id(f"{seed}/{number}"), signature_in(call)
            ),
            name=text_of(function.get("name")),
            arguments=read_arguments(function.get("arguments")),
        )


def read_text(message: Mapping[str, Any]) -> tuple[str, str]:
    """The thinking and the text of a message or of a delta, each possibly empty.

    Thinking is `reasoning_content` (DeepSeek, vLLM), `reasoning` (OpenRouter, Groq, newer vLLM) or
    a part of the content (Mistral, https://docs.mistral.ai/capabilities/reasoning).
    """
    thinking = message.get("reasoning_content") or message.get("reasoning")
    thinking = thinking if isinstance(thinking, str) else ""
    content = message.get("content")
    if not isinstance(content, list):
        return thinking, content if isinstance(content, str) else ""
    texts: list[str] = []
    for part in objects_of(content):
        if part.get("type") == "thinking":
            thoughts = objects_of(part.get("thinking"))
            thinking += "".join(text_of(thought.get("text")) for thought in thoughts)
        else:
            texts.append(text_of(part.get("text")))
    return thinking, "".join(texts)


def read_finish_reason(choice: Mapping[str, Any], calls_tools: bool) -> FinishReason | None:
    """Why the choice ended; None where it says nothing. Raises `UpstreamError` for a finish that
    is a failure.

    Some vendors say `stop` after tool calls, and OpenAI does where a tool was forced.
    """
    if is_error(choice):
        raise error_in_answer(choice)
    reason = text_of(choice.get("finish_reason")).lower()
    if not reason:
        return None
    if reason in _FAILED_FINISHES:
        raise _FAILED_FINISHES[reason](
            f"The provider broke off its answer ({reason.replace('_', ' ')})."
        )
    finish = _FINISH_REASONS.get(reason, FinishReason.STOP)
    return FinishReason.TOOL_CALLS if calls_tools and finish is FinishReason.STOP else finish


def drop_impossible_usage(answer: dict[str, Any]) -> bool:
    """Takes the usage out of an answer or a chunk whose counts cannot be; whether it did."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return False
    if _is_possible(usage):
        return False
    answer["usage"] = None
    return True


def _is_possible(counts: Mapping[str, Any]) -> bool:
    for name, count in counts.items():
        if isinstance(count, (int, float)):
            if not 0 <= count <= MOST_TOKENS and name.endswith("tokens"):
                return False
        elif isinstance(count, dict) and not _is_possible(count):
            return False
    return True


def read_usage(usage: Any) -> Usage | None:
    """The tokens of a `usage` object; None where there is none.

    What the total counts beyond prompt and completion is output as well: some vendors (xAI,
    Gemini) leave reasoning out of `completion_tokens`, and bill it.
    """
    if not isinstance(usage, dict) or not ("prompt_tokens" in usage or "total_tokens" in usage):
        return None
    prompt_tokens = _count(usage.get("prompt_tokens"))
    completion_tokens = _count(usage.get("completion_tokens"))
    beyond_prompt = _count(usage.get("total_tokens")) - prompt_tokens
    output_tokens = max(completion_tokens, beyond_prompt)
    cached = written = reasoning = 0
    if isinstance(prompt := usage.get("prompt_tokens_details"), dict):
        cached = _count(prompt.get("cached_tokens"))
        written = _count(prompt.get("cache_write_tokens"))
    if isinstance(completion := usage.get("completion_tokens_details"), dict):
        reasoning = _count(completion.get("reasoning_tokens"))
    # DeepSeek and Moonshot have names of their own.
    cached = (
        cached or _count(usage.get("prompt_cache_hit_tokens")) or _count(usage.get("cached_tokens"))
    )
    return Usage(
        input_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=min(cached, prompt_tokens),
        cache_write_tokens=written,
        reasoning_tokens=min(reasoning, output_tokens),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def read_arguments(arguments: Any) -> str:
    """A call's arguments as JSON text; some servers send the object itself."""
    if isinstance(arguments, dict):
        return encode(arguments).decode()
    return text_of(arguments)


def text_of(value: Any) -> str:
    """The string, or an empty one for anything else."""
    return value if isinstance(value, str) else ""


def objects_of(value: Any) -> list[dict[str, Any]]:
    """The objects of an array; none for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def made_call_id(seed: str) -> str:
    """An id for a tool call that came without one, the same for the same `seed`."""
    return "call_" + _digest(seed)


def call_id_for_caller(call_id: str) -> str:
    """The id as OpenAI's own look, the same for the same `call_id`."""
    plain, signature = split_signature(call_id)
    return with_signature(plain if plain.startswith("call_") else made_call_id(plain), signature)


def answer_id_for_caller(answer_id: str) -> str:
    """The id of an answer as OpenAI's own look, the same for the same `answer_id`."""
    return answer_id if answer_id.startswith("chatcmpl-") else "chatcmpl-" + _digest(answer_id)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def render_response(response: LLMResponse, created: int) -> bytes:
    """The body for the caller: the vendor's own where it is in this format."""
    completion = response.completion
    if completion.format == NAME and completion.raw:
        return completion.raw
    answer: dict[str, Any] = {
        "id": answer_id_for_caller(completion.id or response.routing.request_id),
        "object": "chat.completion",
        "created": created,
        "model": completion.model or response.routing.model,
        "choices": [_write_choice(choice) for choice in completion.choices],
        "usage": write_usage(completion.usage or Usage()),
        "system_fingerprint": None,
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
    """The reason in OpenAI's words, of which there are four."""
    return _WRITTEN_REASONS.get(reason, "stop")


def write_usage(usage: Usage) -> dict[str, Any]:
    """A `usage` object."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
