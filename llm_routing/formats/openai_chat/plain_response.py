"""Reads complete answers that need no repair: text only, every field as OpenAI documents it.

A fast path of `response` for nearly all answers. Any other answer is read there; for a plain one
both return the same.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from llm_routing.core.content import TextPart
from llm_routing.core.json_size import ANSWER_LIMITS, exceeds
from llm_routing.core.types import MAX_TOKEN_COUNT, Choice, Completion, FinishReason
from llm_routing.formats.names import OPENAI_CHAT

from .repair import MAX_CHOICES
from .usage import read_usage, read_vendor_cost

MAX_INDEX: Final = 2**31
_FINISH_REASONS: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}

_Count = Annotated[int, Meta(ge=0, le=MAX_TOKEN_COUNT)]
_Index = Annotated[int, Meta(ge=0, le=MAX_INDEX)]
_Nothing = Annotated[list[Any], Meta(max_length=0)]


class _Message(Struct, forbid_unknown_fields=True):
    role: Literal["assistant"]
    content: Annotated[str, Meta(min_length=1)]
    refusal: None = None
    annotations: _Nothing | None = None


class _Choice(Struct, forbid_unknown_fields=True):
    index: _Index
    message: _Message
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class _Answer(Struct, forbid_unknown_fields=True):
    id: str
    object: Literal["chat.completion"]
    created: _Index
    model: str
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=MAX_CHOICES)]
    usage: dict[str, _Count | dict[str, _Count | None] | None] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None


_decode: Final = Decoder(_Answer).decode


def read_plain_response(body: bytes) -> Completion | None:
    """Returns the completion of a 2xx body, or None if it is not of the plain form."""
    if exceeds(body, ANSWER_LIMITS):
        return None
    try:
        answer = _decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    usage = answer.usage
    return Completion(
        answer.id,
        answer.model,
        tuple(
            [
                Choice(
                    (TextPart(choice.message.content),),
                    _FINISH_REASONS[choice.finish_reason],
                    choice.index,
                )
                for choice in answer.choices
            ]
        ),
        read_usage(usage, read_vendor_cost(usage, body)),
        OPENAI_CHAT,
        body,
    )
