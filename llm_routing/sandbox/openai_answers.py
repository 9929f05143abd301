"""Writes OpenAI's chat completions, models and errors.

https://platform.openai.com/docs/api-reference/chat/object and /chat/streaming
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from .answers import Answer, Stop, answer
from .catalogue import CREATED, MODELS
from .faults import Faults
from .openai_questions import ChatQuestion
from .reply import EXTRA_FIELDS, Event, Streamed, Whole, dump

_FINISH = {
    Stop.END: "stop",
    Stop.SEQUENCE: "stop",
    Stop.REFUSAL: "stop",
    Stop.LENGTH: "length",
    Stop.TOOL: "tool_calls",
    Stop.FILTER: "content_filter",
}
_ERROR_TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("insufficient_permissions", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_MESSAGES = {
    400: "The request is invalid.",
    401: "Incorrect API key provided.",
    403: "You are not allowed to do this.",
    404: "There is nothing here.",
    413: "The request is too large.",
    429: "Rate limit reached.",
}


def error_body(
    status: int, message: str = "", code: str | None = None, param: str | None = None
) -> bytes:
    """Returns OpenAI's error envelope."""
    default = "server_error" if status >= 500 or status < 400 else "invalid_request_error"
    kind, known_code = _ERROR_TYPES.get(status, (default, None))
    message = message or _MESSAGES.get(status, "The server had an error, as the sandbox was told.")
    error = {"message": message, "type": kind, "param": param, "code": code or known_code}
    return dump({"error": error})


def models_body() -> bytes:
    """Returns the list of models."""
    return dump({"object": "list", "data": [_model(model.name) for model in MODELS]})


def model_body(name: str) -> bytes:
    """Returns one model."""
    return dump(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "sandbox"}


def write_chat(asked: ChatQuestion, faults: Faults) -> Whole | Streamed:
    """Returns the answer to a chat question, whole or streamed as requested."""
    choices = answer(asked.question, faults)
    if not asked.question.stream:
        return Whole(dump(_completion(asked, faults, choices)))
    return Streamed(
        events=_events(asked, faults, choices),
        broken=Event(b'data: {"notice":"back so\n\n'),
        error=_event_bytes(error_body(500, faults.message, faults.code or None)),
    )


def _completion(asked: ChatQuestion, faults: Faults, choices: tuple[Answer, ...]) -> dict[str, Any]:
    extra = EXTRA_FIELDS if faults.extra_fields else {}
    body = {
        **_head(asked, "chat.completion"),
        "choices": [
            {
                "index": index,
                "message": {**_message(choice), **extra},
                "logprobs": _logprobs(asked, choice.text) if asked.logprobs else None,
                "finish_reason": None if faults.no_finish else _FINISH[choice.stop],
                **extra,
            }
            for index, choice in enumerate(choices)
        ],
        **extra,
    }
    if not faults.no_usage:
        body["usage"] = _usage(asked, faults, choices)
    return body


def _head(asked: ChatQuestion, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{asked.question.digest[:24]}",
        "object": kind,
        "created": CREATED,
        "model": asked.question.model,
        "service_tier": "default",
        "system_fingerprint": "fp_sandbox",
    }


def _message(choice: Answer) -> dict[str, Any]:
    text = "".join(choice.text)
    refused = choice.stop is Stop.REFUSAL
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or choice.calls else text,
        "refusal": text if refused else None,
        "annotations": [],
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{call.id}",
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in choice.calls
        ]
    return message


def _usage(asked: ChatQuestion, faults: Faults, choices: tuple[Answer, ...]) -> dict[str, Any]:
    prompt = asked.question.prompt_tokens + faults.cached_tokens + faults.cache_write_tokens
    completion = sum(_tokens(choice) for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": faults.cached_tokens,
            "cache_write_tokens": faults.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": sum(len(choice.reasoning) for choice in choices),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _tokens(choice: Answer) -> int:
    """Returns the output tokens; text beside a tool call is not part of this format's answers."""
    return choice.tokens - (len(choice.text) if choice.calls else 0)


def _logprobs(asked: ChatQuestion, words: tuple[str, ...]) -> dict[str, Any]:
    def one(word: str, rank: int) -> dict[str, Any]:
        token = word if rank == 0 else f"{word}{rank}"
        logprob = -0.0625 * (len(word) % 8) - rank - 0.015625
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    content = [
        {**one(word, 0), "top_logprobs": [one(word, rank) for rank in range(asked.top_logprobs)]}
        for word in words
    ]
    return {"content": content, "refusal": None}


def _event_bytes(data: bytes, content: bool = False) -> Event:
    return Event(b"data: " + data + b"\n\n", content)


def _events(asked: ChatQuestion, faults: Faults, choices: tuple[Answer, ...]) -> Iterator[Event]:
    head = _head(asked, "chat.completion.chunk")
    extra = EXTRA_FIELDS if faults.extra_fields else {}
    if asked.include_usage and not faults.no_usage:
        head["usage"] = None

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> Event:
        choice = {"index": index, "delta": {**delta, **extra}, "finish_reason": finish, **extra}
        words = delta.get("content")
        told = _logprobs(asked, (words,)) if words and asked.logprobs else None
        choice["logprobs"] = told
        return _event_bytes(dump({**head, "choices": [choice], **extra}), _is_content(delta))

    if not choices:
        yield _event_bytes(dump({**head, "choices": [], **extra}))
    for index, choice in enumerate(choices):
        said = None if choice.calls or choice.stop is Stop.REFUSAL else ""
        yield chunk(index, {"role": "assistant", "content": said, "refusal": None})
    for deltas in zip_longest(*(_deltas(choice) for choice in choices)):
        for index, delta in enumerate(deltas):
            if delta is not None:
                yield chunk(index, delta)
    if not faults.no_finish:
        for index, choice in enumerate(choices):
            yield chunk(index, {}, _FINISH[choice.stop])
    if asked.include_usage and not faults.no_usage:
        usage = _usage(asked, faults, choices)
        yield _event_bytes(dump({**head, "choices": [], "usage": usage, **extra}))
    if not faults.no_done:
        yield _event_bytes(b"[DONE]")


def _is_content(delta: dict[str, Any]) -> bool:
    return "role" not in delta and bool(delta)


def _deltas(choice: Answer) -> Iterator[dict[str, Any]]:
    for piece in choice.reasoning:
        yield {"reasoning_content": piece}
    if not choice.calls:
        name = "refusal" if choice.stop is Stop.REFUSAL else "content"
        for piece in choice.text:
            yield {name: piece}
    for index, call in enumerate(choice.calls):
        function = {"name": call.name, "arguments": ""}
        opening = {
            "index": index,
            "id": f"call_{call.id}",
            "type": "function",
            "function": function,
        }
        yield {"tool_calls": [opening]}
        for piece in call.arguments:
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
