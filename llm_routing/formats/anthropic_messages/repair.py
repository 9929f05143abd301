"""Repairs vendors' messages and events to the form that Anthropic documents.

Many servers nearly speak Anthropic's format; its own client parses it strictly. What is complete is
not changed. The meaning of the repaired form is read in `response` and `read_stream`.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from llm_routing.core.codec import decode
from llm_routing.core.unicode import SurrogateJoiner, repair_strings
from llm_routing.formats.base import MAX_ANSWER_PARTS, AnswerDefaults, check_count

from .blocks import message_id

# The text field of a block and of a delta, by the delta's type.
_TEXTS: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
_BLOCK_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "text_delta": {"type": "text", "text": ""},
    "thinking_delta": {"type": "thinking", "thinking": "", "signature": ""},
}
# OpenAI's finish reasons, from servers that mix up the formats.
_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ZEROS: Final = {"input_tokens": 0, "output_tokens": 0}


class UnexpectedShape(ValueError):
    """A piece of the answer does not have the shape that the format documents."""


def repair_message(
    message: dict[str, Any], defaults: AnswerDefaults, stop_reason: Any = None
) -> bool:
    """Completes a message, except for its blocks. Returns whether anything was missing."""
    changed = False
    for name, kind, value in (
        ("id", str, message_id(defaults.id)),
        ("model", str, defaults.model),
        ("content", list, []),
        ("usage", dict, _ZEROS),
    ):
        if not isinstance(message.get(name), kind):
            message[name] = value
            changed = True
    for name, constant in (("type", "message"), ("role", "assistant")):
        if message.get(name) != constant:
            message[name] = constant
            changed = True
    usage = message["usage"]
    for name in _ZEROS:
        if usage.get(name) is None:
            message["usage"] = usage = {**_ZEROS, **usage, name: 0}
            changed = True
    if "stop_reason" not in message:
        message["stop_reason"] = stop_reason
        changed = True
    if "stop_sequence" not in message:
        message["stop_sequence"] = None
        changed = True
    return repair_stop(message) or changed


def repair_stop(owner: dict[str, Any]) -> bool:
    """Replaces OpenAI's finish reason by Anthropic's. Returns whether it was replaced."""
    reason = owner.get("stop_reason")
    if isinstance(reason, str) and reason in _STOP_REASONS:
        owner["stop_reason"] = _STOP_REASONS[reason]
        return True
    return False


def repair_block(block: Any, seed: str) -> bool:
    """Completes a content block. Returns whether anything was missing. Raises `UnexpectedShape`."""
    if not isinstance(block, dict):
        raise UnexpectedShape("A block of the answer could not be read.")
    changed = False
    if block.get("type") is None and isinstance(block.get("text"), str):
        block["type"] = "text"
        changed = True
    match block.get("type"):
        case "thinking":
            for name in ("thinking", "signature"):
                if block.get(name) is None:
                    block[name] = ""
                    changed = True
        case "tool_use":
            if not block.get("id"):
                block["id"] = (
                    "toolu_" + sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:24]
                )
                changed = True
            if not isinstance(block.get("input"), dict):
                block["input"] = _input(block.get("input"))
                changed = True
    return changed


def _input(given: Any) -> dict[str, Any]:
    """Returns a call's input that is not an object as one: parsed from JSON text, or empty."""
    value: Any = given or {}
    if isinstance(given, str) and given:
        try:
            value = decode(given)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise UnexpectedShape("The input of a tool could not be read.")
    return value


class EventRepair:
    """Repairs the events of one streamed answer, in order."""

    def __init__(self, defaults: AnswerDefaults) -> None:
        self._defaults = defaults
        self._id = ""
        self._numbers: dict[int, int] = {}
        self._blocks = 0
        self.halves = SurrogateJoiner()

    def repair(self, kind: str, event: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
        """Repairs an event in place. Returns the events to insert before it, and whether anything
        was changed. Raises `UnexpectedShape`."""
        changed = event.get("type") != kind
        event["type"] = kind
        before: list[dict[str, Any]] = []
        if kind == "message_start":
            return before, self._repair_start(event) or changed
        if not self._id and (kind.startswith("content_block") or kind == "message_delta"):
            start: dict[str, Any] = {"type": "message_start", "message": {}}
            self._repair_start(start)
            before.append(start)
        match kind:
            case "content_block_start":
                changed = self._repair_block_start(event) or changed
            case "content_block_delta":
                changed = self._repair_delta(event, before) or changed
            case "content_block_stop":
                changed = self._repair_index(event) or changed
            case "message_delta":
                changed = self._repair_message_delta(event) or changed
        return before, changed or bool(before)

    def join_halves(self, event: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Returns the events to insert before the repaired event, and the event without lone
        surrogates."""
        before: list[dict[str, Any]] = []
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            name = _TEXTS.get(delta.get("type"), "")
            if isinstance(delta.get(name), str) and delta[name]:
                delta[name] = self.halves.join((event["index"], delta["type"]), delta[name])
        elif event["type"] == "content_block_stop":
            for kind, name in _TEXTS.items():
                if lost := self.halves.flush((event["index"], kind)):
                    before.append(
                        {
                            "type": "content_block_delta",
                            "index": event["index"],
                            "delta": {"type": kind, name: lost},
                        }
                    )
        mended: dict[str, Any] = repair_strings(event)
        return before, mended

    def _repair_start(self, event: dict[str, Any]) -> bool:
        message = event.get("message")
        if not isinstance(message, dict):
            raise UnexpectedShape("The start of the answer could not be read.")
        changed = repair_message(message, self._defaults)
        if self._id and message["id"] != self._id and self._blocks:
            # Two answers in one stream: a proxy has retried.
            raise UnexpectedShape("Another answer began in the middle of the stream.")
        self._id = message["id"] or "msg"
        return changed

    def _repair_block_start(self, event: dict[str, Any]) -> bool:
        given = event.get("index")
        number = self._blocks
        check_count("blocks", number + 1, MAX_ANSWER_PARTS)
        self._blocks += 1
        if type(given) is int:
            self._numbers[given] = number
        changed = given != number
        event["index"] = number
        if "content_block" not in event:
            raise UnexpectedShape("A block of the answer could not be read.")
        block = event["content_block"]
        if isinstance(block, dict) and block.get("type") == "text" and block.get("text") is None:
            block["text"] = ""
            changed = True
        return repair_block(block, f"{self._id}/{number}") or changed

    def _repair_index(self, event: dict[str, Any]) -> bool:
        """Numbers blocks from 0 in order of their start, because clients append them to a list."""
        given = event.get("index")
        number = self._numbers.get(given, given) if type(given) is int else self._blocks - 1
        event["index"] = number
        return number != given

    def _repair_delta(self, event: dict[str, Any], before: list[dict[str, Any]]) -> bool:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            raise UnexpectedShape("A delta of the answer could not be read.")
        changed = False
        if delta.get("type") is None:
            found = [kind for kind, name in _TEXTS.items() if isinstance(delta.get(name), str)]
            if len(found) != 1:
                raise UnexpectedShape("A delta of the answer could not be read.")
            delta["type"] = found[0]
            changed = True
        if not isinstance(delta["type"], str):
            raise UnexpectedShape("A delta of the answer could not be read.")
        name = _TEXTS.get(delta["type"])
        if name is not None and delta.get(name) is None:
            delta[name] = ""
            changed = True
        changed = self._repair_index(event) or changed
        if event["index"] >= self._blocks or event["index"] < 0:
            block = _BLOCK_OF.get(delta["type"])
            if block is None and name is not None:
                raise UnexpectedShape("A delta of the answer does not belong to a block.")
            if block is None:
                # It holds no content, and clients would look for its block.
                event.clear()
                event["type"] = "ping"
                return True
            start = {"type": "content_block_start", "content_block": dict(block)}
            start["index"] = event["index"]
            self._repair_block_start(start)
            self._repair_index(event)
            before.append(start)
            changed = True
        return changed

    def _repair_message_delta(self, event: dict[str, Any]) -> bool:
        delta = event.get("delta")
        changed = False
        if delta is None:
            delta = event["delta"] = {}
            changed = True
        if isinstance(delta, dict):
            if "stop_sequence" not in delta:
                delta["stop_sequence"] = None
                changed = True
            changed = repair_stop(delta) or changed
        usage = event.get("usage")
        if not isinstance(usage, dict):
            event["usage"] = {"output_tokens": 0}
            changed = True
        elif usage.get("output_tokens") is None:
            event["usage"] = {**usage, "output_tokens": 0}
            changed = True
        return changed
