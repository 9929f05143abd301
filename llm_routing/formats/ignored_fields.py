"""Finds request fields that a target ignores, to be named in `x-llm-ignored`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.quirks import words
from llm_routing.core.types import LLMRequest, Source

from .names import ANTHROPIC_MESSAGES, OPENAI_CHAT
from .restrictions import RESTRICTED_ESSENTIALS

_ROUTE_DEFAULTS: Final = frozenset(("temperature", "max_tokens", "max_completion_tokens"))
_MAX_NAMES: Final = 40
_MAX_NAME_LENGTH: Final = 80

_CACHE: Final = {"cache_control": None}
_TEXT_OF_ANTHROPIC: Final = {"type": None, "text": None, **_CACHE}
_FUNCTION: Final = {"name": None, "description": None, "parameters": None, "strict": None}

# The fields that our readers translate, by format: None if the whole value is read, else the fields
# that are read of an object, or of each object in an array.
READ_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    OPENAI_CHAT: {
        **dict.fromkeys(
            words(
                "model temperature top_p top_k max_tokens max_completion_tokens stop seed n "
                "frequency_penalty presence_penalty logprobs top_logprobs tool_choice "
                "parallel_tool_calls response_format reasoning_effort user safety_identifier "
                "stream"
            )
        ),
        "messages": {
            **dict.fromkeys(
                words(
                    "role name refusal tool_call_id audio reasoning_content reasoning cache_control"
                )
            ),
            "content": dict.fromkeys(
                words("type text image_url refusal input_audio file cache_control")
            ),
            "tool_calls": dict.fromkeys(words("id type index function custom extra_content")),
        },
        "tools": {"type": None, "function": _FUNCTION, "custom": None, **_CACHE},
        "reasoning": dict.fromkeys(("effort", "enabled", "max_tokens")),
        "thinking": dict.fromkeys(("type", "budget_tokens")),
        "stream_options": {"include_usage": None},
    },
    ANTHROPIC_MESSAGES: {
        **dict.fromkeys(
            words("model max_tokens temperature top_p top_k stop_sequences stream output_format")
        ),
        "messages": {
            "role": None,
            "content": {
                **_TEXT_OF_ANTHROPIC,
                **dict.fromkeys(
                    words(
                        "source thinking signature data id name input tool_use_id is_error title "
                        "context"
                    )
                ),
                "content": {**_TEXT_OF_ANTHROPIC, **dict.fromkeys(("source", "tool_name"))},
            },
        },
        "system": _TEXT_OF_ANTHROPIC,
        "tools": {
            **dict.fromkeys(("type", "name", "description", "input_schema", "strict")),
            **_CACHE,
        },
        "tool_choice": dict.fromkeys(("type", "name", "disable_parallel_tool_use")),
        "metadata": {"user_id": None},
        "thinking": dict.fromkeys(("type", "budget_tokens")),
        "output_config": dict.fromkeys(("effort", "format")),
    },
}
# Values that change nothing, by the path of their field.
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "tool_choice": ("auto",),
    # Without `functions`, which no other format takes, both mean the same.
    "function_call": ("auto", "none"),
    "context_management": ({"edits": []},),
    "inference_geo": ("global",),
    "messages.content.caller": ({"type": "direct"},),
    "messages.content.citations": ({"enabled": False},),
}


# Fields whose default is `true`, so that only `false` has an effect.
_TRUE_BY_DEFAULT: Final = frozenset(("parallel_tool_calls",))
# Without these the caller would get something other than it asked for.
_ESSENTIAL: Final = RESTRICTED_ESSENTIALS | {
    "function_call",
    "functions",
    "messages.function_call",
    "moderation",
}


def has_value(value: Any) -> bool:
    """Returns whether a field's value differs from leaving the field out."""
    return not (value is None or value is False or value in ("", [], {}))


def has_effect(name: str, value: Any) -> bool:
    """Returns whether leaving out the field at the path `name` changes the request."""
    if name in _TRUE_BY_DEFAULT:
        return value is False
    return has_value(value) and value not in _NEUTRAL.get(name, ())


def was_set_by_caller(request: LLMRequest, name: str) -> bool:
    """Returns whether the caller set the field. Settings of the route are not reported."""
    source = request.source
    if source is None:
        return True
    return source.body.get(name) is not None or name not in _ROUTE_DEFAULTS


def bounded_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names for `WireRequest.ignored`: each once, and only as many as fit into a
    header, because callers can write any number of fields."""
    if not names:
        return ()
    unique = dict.fromkeys(name[:_MAX_NAME_LENGTH] for name in names)
    return tuple(unique)[:_MAX_NAMES]


def check_can_be_ignored(name: str, value: Any) -> None:
    """Raises `UnsupportedRequest` for a field that cannot be ignored: without it the caller would
    get something other than it asked for."""
    match name:
        case "web_search_options":
            # An empty object asks for a search with the default settings.
            is_essential = value is not None
        case "modalities":
            is_essential = isinstance(value, list) and any(kind != "text" for kind in value)
        case _:
            is_essential = name in _ESSENTIAL and has_effect(name, value)
    if is_essential:
        raise UnsupportedRequest(f"This target does not support {name}.")


def untranslated_fields(source: Source | None) -> list[str]:
    """Returns the fields of a body in another format that are not translated, by their paths
    without indices. Raises `UnsupportedRequest`."""
    if source is None or source.format not in READ_FIELDS:
        return []
    return _lost(source.body, READ_FIELDS[source.format], "")


def _lost(body: Mapping[str, Any], read: Mapping[str, Any], path: str) -> list[str]:
    lost: list[str] = []
    for name, value in body.items():
        where = f"{path}{name}"
        if name not in read:
            check_can_be_ignored(where, value)
            if has_effect(where, value):
                lost.append(where)
            continue
        inner = read[name]
        if inner is None:
            continue
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                lost += _lost(item, inner, f"{where}.")
    return lost
