"""Repairs vendors' answers and chunks to the form that OpenAI documents.

Clients parse strictly, and vendors leave fields out or write them differently. What is complete is
not changed. Raises `MalformedAnswer` for unreadable content. The meaning of the repaired form is
read in `response` and `read_stream`.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from llm_routing.core.codec import encode
from llm_routing.core.errors import MalformedAnswer
from llm_routing.core.unicode import SurrogateJoiner, repair_strings, repair_text
from llm_routing.formats.base import MAX_ANSWER_PARTS, AnswerDefaults, check_count

ANSWER: Final = "chat.completion"
CHUNK: Final = "chat.completion.chunk"
MAX_CHOICES: Final = 128
"""The most choices that a request may ask for."""

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "thinking", "refusal")
_DIGEST_LENGTH: Final = 24


def made_call_id(seed: str) -> str:
    """Returns an id for a tool call that came without one; equal seeds give equal ids."""
    return "call_" + _digest(seed)


def answer_id_for_caller(answer_id: str) -> str:
    """Returns an answer id that looks like OpenAI's; equal ids give equal results."""
    return answer_id if answer_id.startswith("chatcmpl-") else "chatcmpl-" + _digest(answer_id)


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]


def repair_envelope(owner: dict[str, Any], kind: str, defaults: AnswerDefaults) -> bool:
    """Completes the fields around the choices. Returns whether any was missing."""
    changed = False
    if not isinstance(owner.get("id"), str):
        owner["id"] = answer_id_for_caller(defaults.id)
        changed = True
    if owner.get("object") != kind:
        owner["object"] = kind
        changed = True
    if type(owner.get("created")) is not int:
        created = owner.get("created")
        owner["created"] = int(created) if isinstance(created, float) else defaults.created
        changed = True
    if not isinstance(owner.get("model"), str):
        owner["model"] = defaults.model
        changed = True
    if owner.get("usage") is not None and not isinstance(owner["usage"], dict):
        owner["usage"] = None
        changed = True
    return changed


def repair_index(choice: dict[str, Any], position: int) -> bool:
    """Numbers a choice that has no number. Returns whether it was missing."""
    index = choice.get("index")
    if type(index) is int and index >= 0:
        return False
    choice["index"] = position
    return True


def repair_choice_extras(choice: dict[str, Any]) -> bool:
    """Removes unreadable fields beside the answer. Returns whether there were any."""
    changed = False
    if choice.get("logprobs") is not None and not isinstance(choice["logprobs"], dict):
        choice["logprobs"] = None
        changed = True
    if choice.get("finish_reason") is not None and not isinstance(choice["finish_reason"], str):
        choice["finish_reason"] = None
        changed = True
    return changed


def repair_texts(owner: dict[str, Any], *, is_delta: bool) -> bool:
    """Makes the texts of a message or a delta strings. Returns whether anything was changed. Raises
    `MalformedAnswer` for content that cannot be read."""
    changed = False
    content = owner.get("content")
    if type(content) is not str and content is not None:
        text, thinking = _text_of_parts(content, is_delta=is_delta)
        owner["content"] = text
        if thinking:
            owner["reasoning_content"] = thinking
        changed = True
    for name in ("reasoning_content", "reasoning", "thinking"):
        if name in owner and owner[name] is not None and not isinstance(owner[name], str):
            del owner[name]
            changed = True
    refusal = owner.get("refusal")
    if refusal is not None and type(refusal) is not str:
        raise unreadable("a refusal")
    return changed


def _text_of_parts(content: Any, *, is_delta: bool) -> tuple[str, str]:
    """Returns the text and the thinking of content in parts (Mistral,
    https://docs.mistral.ai/capabilities/reasoning). A text part of a delta may be empty."""
    if not isinstance(content, list):
        raise unreadable("content")
    check_count("content parts", len(content), MAX_ANSWER_PARTS)
    texts: list[str] = []
    thinking: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type") == "thinking":
            thoughts = part.get("thinking")
            if not isinstance(thoughts, str):
                thoughts, _ = _text_of_parts(thoughts, is_delta=is_delta)
            thinking.append(thoughts)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part is not None and not _is_beside_text(part, is_delta=is_delta):
            raise unreadable("a part of the content")
    return "".join(texts), "".join(thinking)


def _is_beside_text(part: Any, *, is_delta: bool) -> bool:
    """Returns whether a part has no text to read, such as a reference to a source."""
    is_empty = isinstance(part, dict) and part.get("text") is None
    return is_empty and (is_delta or part.get("type") != "text")


def calls_in(owner: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """Returns the tool calls of a message or a delta, in its own list, and whether that was
    changed. Raises `MalformedAnswer`."""
    calls = owner.get("tool_calls")
    if calls is None:
        return [], False
    if not isinstance(calls, list):
        raise unreadable("the tool calls")
    check_count("tool calls", len(calls), MAX_ANSWER_PARTS)
    changed = None in calls
    if changed:
        calls = owner["tool_calls"] = [call for call in calls if call is not None]
    if not all(isinstance(call, dict) for call in calls):
        raise unreadable("a tool call")
    return calls, changed


def repair_function(function: dict[str, Any], arguments: str, *, is_begun: bool) -> bool:
    """Makes a function's name and arguments strings. Returns whether anything was changed."""
    changed = False
    if type(function.get("name")) is not str and (is_begun or function.get("name") is not None):
        if function.get("name") is not None:
            raise unreadable("the name of a tool")
        function["name"] = ""
        changed = True
    given = function.get(arguments)
    if type(given) is not str and (is_begun or given is not None):
        if given is None or given == []:
            # An empty array is PHP's empty object.
            function[arguments] = "" if given is None else "{}"
        elif isinstance(given, dict | list):
            # Some servers send the object itself.
            function[arguments] = encode(repair_strings(given)).decode()
        else:
            raise unreadable("the arguments of a tool")
        changed = True
    return changed


def function_of(call: dict[str, Any], *, is_begun: bool) -> tuple[dict[str, Any], bool]:
    """Returns the function of a call, with name and arguments as strings, and whether anything was
    changed. A custom tool has an input in place of arguments."""
    kind, arguments = ("custom", "input") if call.get("custom") else ("function", "arguments")
    function = call.get(kind)
    if function is not None and not isinstance(function, dict):
        raise unreadable("a tool call")
    changed = function is None
    if function is None:
        function = call[kind] = {}
    changed = repair_function(function, arguments, is_begun=is_begun) or changed
    if is_begun and not isinstance(call.get("type"), str):
        call["type"] = kind
        changed = True
    return function, changed


def unreadable(what: str) -> MalformedAnswer:
    """Returns the error for a malformed piece of the answer."""
    return MalformedAnswer(f"A piece of the answer could not be read: {what}.")


@dataclass(slots=True)
class _Call:
    """A tool call in progress: its number among the calls of its choice, and its id on the wire."""

    number: int
    id: str
    name: str


@dataclass(slots=True)
class _Choice:
    """The state of one choice."""

    index: int
    has_role: bool = False
    calls: list[_Call] = field(default_factory=list)
    slots: dict[int, _Call] = field(default_factory=dict)
    calls_by_id: dict[str, _Call] = field(default_factory=dict)

    def call(self, slot: Any, call_id: str, name: str) -> _Call | None:
        """Returns the call that a delta continues, or None if it begins another one.

        In OpenAI's format `index` decides. Vendors have left it out, have written 0 for every call
        (Ollama, Gemini), repeat id and name in every delta, or make up a new id for each. A slot is
        therefore reused only if both an id and a name are present and the id differs.
        """
        if type(slot) is int:
            known = self.slots.get(slot)
            is_another = known is not None and name and call_id not in ("", known.id)
            return None if is_another else known
        if call_id:
            return self.calls_by_id.get(call_id)
        return self.calls[-1] if self.calls and not name else None

    def begin(self, slot: Any, call_id: str, name: str) -> _Call:
        """Adds a call. Raises `AnswerTooLarge` if there are too many."""
        check_count("tool calls", len(self.calls) + 1, MAX_ANSWER_PARTS)
        call = _Call(len(self.calls), call_id, name)
        self.calls.append(call)
        self.calls_by_id.setdefault(call_id, call)
        if type(slot) is int:
            self.slots[slot] = call
        return call


class ChunkRepair:
    """Repairs the chunks of one streamed answer, in order."""

    def __init__(self, defaults: AnswerDefaults) -> None:
        self._defaults = defaults
        self.answer_id = ""
        self._choices: dict[int, _Choice] = {}
        self.halves = SurrogateJoiner()

    def repair(self, chunk: dict[str, Any]) -> bool:
        """Repairs a chunk in place. Returns whether it was changed. Raises `MalformedAnswer`."""
        changed = self._repair_envelope(chunk)
        choices = chunk.get("choices")
        if type(choices) is not list:
            if choices is not None or any(
                isinstance(chunk.get(name), dict | list) or (name != "message" and chunk.get(name))
                for name in ("delta", "content", "text", "message")
            ):
                raise unreadable("the choices")
            chunk["choices"] = []
            return True
        check_count("choices", len(choices), MAX_ANSWER_PARTS)
        for position, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise unreadable("a choice")
            changed = self._repair_choice(choice, position) or changed
        return changed

    def join_halves(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """Returns the repaired chunk without lone surrogates."""
        for choice in chunk["choices"]:
            self._join_in(choice["index"], choice["delta"], is_last=bool(choice["finish_reason"]))
        mended: dict[str, Any] = repair_strings(chunk)
        return mended

    def _repair_envelope(self, chunk: dict[str, Any]) -> bool:
        changed = repair_envelope(chunk, CHUNK, self._defaults)
        if not self.answer_id:
            self.answer_id = repair_text(chunk["id"])
        elif chunk["id"] != self.answer_id:
            chunk["id"] = self.answer_id
            changed = True
        return changed

    def _repair_choice(self, given: dict[str, Any], position: int) -> bool:
        changed = repair_index(given, position)
        changed = repair_choice_extras(given) or changed
        if "finish_reason" not in given:
            given["finish_reason"] = None
            changed = True
        index = given["index"]
        choice = self._choices.get(index)
        if choice is None:
            check_count("choices", len(self._choices) + 1, MAX_CHOICES)
            choice = self._choices[index] = _Choice(index)
        delta = given.get("delta")
        if type(delta) is not dict:
            # Servers that do not really stream send a complete message.
            delta = given.pop("message", None) if delta is None else delta
            if delta is None and not given.get("text"):
                delta = {}
            if not isinstance(delta, dict):
                raise unreadable("a delta")
            given["delta"] = delta
            changed = True
        return self._repair_delta(delta, choice) or changed

    def _repair_delta(self, delta: dict[str, Any], choice: _Choice) -> bool:
        changed = repair_texts(delta, is_delta=True)
        role = delta.get("role")
        if not choice.has_role:
            choice.has_role = True
            if role != "assistant":
                delta["role"] = "assistant"
                changed = True
        elif role is not None:
            # Clients concatenate strings: a repeated role becomes "assistantassistant".
            del delta["role"]
            changed = True
        if "tool_calls" in delta:
            calls, dropped = calls_in(delta)
            changed = changed or dropped
            for call in calls:
                changed = self._repair_call(call, choice) or changed
        if (function := delta.get("function_call")) is not None:
            if not isinstance(function, dict):
                raise unreadable("a function call")
            changed = repair_function(function, "arguments", is_begun=False) or changed
        return changed

    def _repair_call(self, given: dict[str, Any], choice: _Choice) -> bool:
        slot, call_id = given.get("index"), given.get("id")
        call_id = call_id if isinstance(call_id, str) else ""
        called = given.get("custom") or given.get("function")
        name = called.get("name") if isinstance(called, dict) else None
        name = name if isinstance(name, str) else ""
        call = choice.call(slot, call_id, name)
        if call is None:
            call = choice.begin(slot, call_id, name)
            changed = function_of(given, is_begun=True)[1]
            if not call_id:
                given["id"] = made_call_id(f"{self.answer_id}/{choice.index}/{call.number}")
                changed = True
        else:
            function, changed = function_of(given, is_begun=False)
            # Fields of a call's first delta are not repeated, because clients concatenate them.
            for said_once in ("id", "type"):
                if given.pop(said_once, None) is not None:
                    changed = True
            if name and name == call.name:
                del function["name"]
                changed = True
            call.name = call.name or name
        if type(slot) is not int or slot != call.number:
            given["index"] = call.number
            changed = True
        return changed

    def _join_in(self, index: int, delta: dict[str, Any], *, is_last: bool) -> None:
        for name in _TEXTS:
            text = delta.get(name)
            # An empty piece says nothing about the next one.
            if isinstance(text, str) and text:
                delta[name] = self.halves.join((index, name), text)
            elif (text is None or is_last) and (lost := self.halves.flush((index, name))):
                delta[name] = lost
        calls = delta.get("tool_calls") or []
        for call in calls:
            called = call.get("custom") or call["function"]
            name = "input" if "custom" in call else "arguments"
            if isinstance(called.get(name), str):
                called[name] = self.halves.join((index, call["index"]), called[name])
        if is_last:
            lost_in = [
                {"index": call.number, "function": {"arguments": lost}}
                for call in self._choices[index].calls
                if (lost := self.halves.flush((index, call.number)))
            ]
            if lost_in:
                delta["tool_calls"] = [*calls, *lost_in]
