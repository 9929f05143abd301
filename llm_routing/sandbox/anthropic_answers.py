"""Writes Anthropic's messages, token counts, models and errors.

https://platform.claude.com/docs/en/api/messages and /build-with-claude/streaming
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from .answers import Answer, Question, Stop, answer
from .catalogue import CREATED_AT, MODELS
from .faults import Faults
from .reply import EXTRA_FIELDS, Event, Streamed, Whole, dump

_STOP = {
    Stop.END: "end_turn",
    Stop.SEQUENCE: "stop_sequence",
    Stop.REFUSAL: "refusal",
    Stop.LENGTH: "max_tokens",
    Stop.TOOL: "tool_use",
    Stop.FILTER: "refusal",
}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_MESSAGES = {
    401: "invalid x-api-key",
    429: "This request would exceed your rate limit.",
    529: "Overloaded",
}


def error_body(status: int, request_id: str, message: str = "", kind: str | None = None) -> bytes:
    """Returns Anthropic's error envelope. For errors that only threads have, the code is beside the
    type."""
    default = "api_error" if status >= 500 or status < 400 else "invalid_request_error"
    code = kind if kind and kind.startswith("thread_") else None
    error: dict[str, Any] = {
        "type": (kind if code is None else None) or _ERROR_TYPES.get(status, default),
        "message": message or _MESSAGES.get(status, "An error requested by a fault."),
    }
    if code is not None:
        error["details"] = {"error_code": code}
    return dump({"type": "error", "error": error, "request_id": request_id})


def models_body() -> bytes:
    """Returns the list of models."""
    chats = [_model(model.name) for model in MODELS if not model.embeds]
    first, last = chats[0]["id"], chats[-1]["id"]
    return dump({"data": chats, "has_more": False, "first_id": first, "last_id": last})


def model_body(name: str) -> bytes:
    """Returns one model."""
    return dump(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": CREATED_AT,
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }


def count_body(question: Question) -> bytes:
    """Returns the body of `POST /v1/messages/count_tokens`."""
    return dump({"input_tokens": question.prompt_tokens})


def write_messages(question: Question, faults: Faults, request_id: str) -> Whole | Streamed:
    """Returns the answer to a question, whole or streamed as requested."""
    choices = answer(question, faults)
    choice = choices[0] if choices else Answer((), Stop.END)
    if not question.stream:
        return Whole(dump(_body(question, faults, choice)))
    broken = b'event: ping\ndata: {"type": "pi\n\n'
    error = json.loads(error_body(529, request_id, faults.message, faults.code or None))
    return Streamed(
        events=_events(question, faults, choice),
        broken=Event(broken),
        error=_event(error),
    )


def held(question: Question, faults: Faults) -> tuple[str, list[dict[str, Any]]]:
    """Returns the id and the blocks of an answer, as a thread stores them."""
    choices = answer(question, faults)
    return _head(question)["id"], _blocks(choices[0]) if choices else []


def _body(question: Question, faults: Faults, choice: Answer) -> dict[str, Any]:
    extra = EXTRA_FIELDS if faults.extra_fields else {}
    body = {
        **_head(question),
        "content": [{**block, **extra} for block in _blocks(choice)],
        "stop_reason": None if faults.no_finish else _STOP[choice.stop],
        "stop_sequence": choice.stop_sequence if choice.stop is Stop.SEQUENCE else None,
        **extra,
    }
    if not faults.no_usage:
        body["usage"] = _usage(question, faults, choice, choice.tokens)
    return body


def _head(question: Question) -> dict[str, Any]:
    return {
        "id": f"msg_{question.digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": question.model,
    }


def _usage(question: Question, faults: Faults, choice: Answer, output: int) -> dict[str, Any]:
    """Returns the tokens; `input_tokens` excludes those read from or written to the cache."""
    return {
        "input_tokens": question.prompt_tokens,
        "cache_creation_input_tokens": faults.cache_write_tokens,
        "cache_read_input_tokens": faults.cached_tokens,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": min(output, len(choice.reasoning))},
        "service_tier": "standard",
    }


def _signature(choice: Answer) -> str:
    return hashlib.sha256("".join(choice.reasoning).encode()).hexdigest()


def _blocks(choice: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if choice.reasoning:
        thinking = "".join(choice.reasoning)
        blocks.append({"type": "thinking", "thinking": thinking, "signature": _signature(choice)})
    if choice.text:
        blocks.append({"type": "text", "text": "".join(choice.text)})
    calls = [
        {
            "type": "tool_use",
            "id": f"toolu_{call.id}",
            "name": call.name,
            "input": _arguments(call.arguments),
        }
        for call in choice.calls
    ]
    return [*blocks, *calls]


def _arguments(cut: tuple[str, ...]) -> Any:
    """Returns the arguments as an object; empty if `max_tokens` cut them."""
    try:
        return json.loads("".join(cut))
    except ValueError:
        return {}


def _event(data: dict[str, Any], content: bool = False) -> Event:
    return Event(b"event: %s\ndata: %s\n\n" % (data["type"].encode(), dump(data)), content)


def _events(question: Question, faults: Faults, choice: Answer) -> Iterator[Event]:
    extra = EXTRA_FIELDS if faults.extra_fields else {}
    message = {
        **_head(question),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        **extra,
    }
    if not faults.no_usage:
        message["usage"] = _usage(question, faults, choice, min(1, choice.tokens))
    yield _event({"type": "message_start", "message": message, **extra})
    for index, (opening, deltas) in enumerate(_streamed_blocks(choice)):
        is_call = opening["type"] == "tool_use"
        block = {**opening, **extra}
        start = {"type": "content_block_start", "index": index, "content_block": block}
        yield _event(start, content=is_call)
        if index == 0:
            yield _event({"type": "ping"})
        for delta in deltas:
            data = {"type": "content_block_delta", "index": index, "delta": delta, **extra}
            yield _event(data, content=delta["type"] != "signature_delta")
        yield _event({"type": "content_block_stop", "index": index})
    if not faults.no_finish:
        reason = {
            "stop_reason": _STOP[choice.stop],
            "stop_sequence": choice.stop_sequence if choice.stop is Stop.SEQUENCE else None,
        }
        end: dict[str, Any] = {"type": "message_delta", "delta": reason, **extra}
        if not faults.no_usage:
            end["usage"] = _usage(question, faults, choice, choice.tokens)
        yield _event(end)
    if not faults.no_done:
        yield _event({"type": "message_stop"})


def _streamed_blocks(choice: Answer) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yields the events that open each block and add to it."""
    if choice.reasoning:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in choice.reasoning]
        signed = {"type": "signature_delta", "signature": _signature(choice)}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
    if choice.text:
        yield (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": piece} for piece in choice.text],
        )
    for call in choice.calls:
        yield (
            {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": {}},
            [{"type": "input_json_delta", "partial_json": piece} for piece in call.arguments],
        )
