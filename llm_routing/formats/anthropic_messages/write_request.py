"""Writes requests for vendors of Anthropic Messages, from the caller's body or canonical form.

Source: https://platform.claude.com/docs/en/api/messages and the pages it links to
(anthropic-version 2023-06-01).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from llm_routing.core.capabilities import Capability
from llm_routing.core.codec import encode
from llm_routing.core.content import (
    AnswerFormat,
    ForeignTool,
    Message,
    Role,
    TextPart,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.json_size import REQUEST_LIMITS
from llm_routing.core.ports import WireRequest
from llm_routing.core.routing_table import ModelSpec
from llm_routing.core.types import LLMRequest, Thread
from llm_routing.formats.base import Target
from llm_routing.formats.ignored_fields import bounded_names, untranslated_fields
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.tool_arguments import arguments_exceed
from llm_routing.formats.tool_schema import object_schema

from .blocks import write_block
from .fit import fit_limit, fit_request
from .reasoning import write_thinking
from .strict_schema import UnsupportedSchemaError, supported_schema

HEADERS: Final = {"anthropic-version": "2023-06-01", "content-type": "application/json"}
DEFAULT_MAX_TOKENS: Final = 4096

_SAMPLING: Final = ("temperature", "top_p", "top_k")
# The fields of a request that POST /v1/messages/count_tokens accepts.
_COUNTED: Final = frozenset(
    ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
)
_CHOICE_TYPES: Final = {
    ToolChoiceMode.AUTO: "auto",
    ToolChoiceMode.REQUIRED: "any",
    ToolChoiceMode.NAMED: "tool",
    ToolChoiceMode.NONE: "none",
}
# A schema with only these keywords accepts any object.
_ANY_OBJECT: Final = frozenset(("type", "title", "description", "$schema"))
_JSON_INSTRUCTION: Final = "Answer with a single JSON object and nothing else."


def write_request(request: LLMRequest, target: Target) -> WireRequest:
    """Returns the request for `POST /v1/messages`. Raises `UnsupportedRequest`."""
    ignored: list[str] = []
    body = _body(request, target, ignored)
    if request.stream:
        body["stream"] = True
    else:
        body.pop("stream", None)
    return _wire_request(request, "/v1/messages", body, ignored)


def write_count_tokens_request(request: LLMRequest, target: Target) -> WireRequest:
    """Returns the request for `POST /v1/messages/count_tokens`. Raises `UnsupportedRequest`.

    Source: https://platform.claude.com/docs/en/api/messages-count-tokens
    """
    source = _source_body(request)
    ignored: list[str] = []
    body = _body(request, target, ignored)
    known = _COUNTED if source is None else _COUNTED | source.keys()
    return _wire_request(
        request,
        "/v1/messages/count_tokens",
        {name: value for name, value in body.items() if name in known},
        ignored,
    )


def _wire_request(
    request: LLMRequest, path: str, body: Mapping[str, Any], ignored: Sequence[str]
) -> WireRequest:
    try:
        encoded = encode(body)
    except ValueError as error:
        raise UnsupportedRequest("The request cannot be encoded as JSON.") from error
    headers = {**HEADERS, **_source_headers(request)}
    return WireRequest(path, encoded, headers, ignored=bounded_names(ignored))


def _source_headers(request: LLMRequest) -> Mapping[str, str]:
    source = request.source
    return source.headers if source is not None and source.format == ANTHROPIC_MESSAGES else {}


def _source_body(request: LLMRequest) -> Mapping[str, Any] | None:
    source = request.source
    return source.body if source is not None and source.format == ANTHROPIC_MESSAGES else None


def _body(request: LLMRequest, target: Target, ignored: list[str]) -> dict[str, Any]:
    source = _source_body(request)
    if source is None:
        body = _Builder(request, target, ignored).build()
    else:
        body = _from_source(source, request, target, ignored)
    fit_request(body, target, ignored, is_own=source is not None)
    body.update(request.extra)
    return body


def _from_source(
    source: Mapping[str, Any], request: LLMRequest, target: Target, ignored: list[str]
) -> dict[str, Any]:
    """Returns the caller's own body with the route's settings applied."""
    body, model = dict(source), target.model
    body["model"] = model.model_id
    if request.thread is not None:
        _write_thread(body, request.thread, target, ignored)
    if body.get("max_tokens") is None:
        body["max_tokens"] = _max_tokens(request, model)
    fit_limit(body, request, target, ignored)
    body["messages"] = _without_unsigned_thinking(body["messages"])
    if request.system_prompt:
        body["system"] = request.system_prompt
    if model.refuses_sampling:
        ignored += [name for name in _SAMPLING if body.pop(name, None) is not None]
    elif (
        request.temperature is not None
        and body.get("temperature") is None
        # A route's temperature is dropped, because the vendor refuses it beside these.
        and body.get("thinking") is None
        and body.get("top_p") is None
    ):
        body["temperature"] = min(request.temperature, 1.0)
    return body


def _write_thread(body: dict[str, Any], thread: Thread, target: Target, ignored: list[str]) -> None:
    """Writes the vendor's own id of the answer to continue. At a vendor that does not hold threads,
    none is begun."""
    if not target.provider.quirks.holds_threads:
        del body["thread"]
        ignored.append("thread")
    elif thread.previous is not None:
        body["thread"] = {**body["thread"], "previous_message_id": thread.previous}


def _without_unsigned_thinking(messages: Sequence[Any]) -> Sequence[Any]:
    """Returns the messages without unsigned reasoning. Callers receive the reasoning of other
    vendors with an empty signature and send it back, and Anthropic would refuse it."""
    cleaned: list[Any] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            kept = [block for block in content if not _is_unsigned_thinking(block)]
            if len(kept) < len(content):
                message = {**message, "content": kept}
            if content and not kept:
                continue
        cleaned.append(message)
    return cleaned


def _is_unsigned_thinking(block: Mapping[str, Any]) -> bool:
    return block["type"] == "thinking" and not block.get("signature")


def _max_tokens(request: LLMRequest, model: ModelSpec) -> int:
    if request.max_tokens is None:
        return model.max_output_tokens or DEFAULT_MAX_TOKENS
    return request.max_tokens


class _Builder:
    """Writes one canonical request; what the format lacks is added to `ignored`."""

    def __init__(self, request: LLMRequest, target: Target, ignored: list[str]) -> None:
        self._request = request
        self._target = target
        self._model = target.model
        self._ignored = ignored
        self._system: list[TextPart] = []
        self._body: dict[str, Any] = {}

    def build(self) -> dict[str, Any]:
        """Returns the body, without `stream`. Raises `UnsupportedRequest`."""
        self._ignored += untranslated_fields(self._request.source)
        self._refuse_alternatives()
        messages = self._messages()
        self._body.update(
            model=self._model.model_id,
            max_tokens=_max_tokens(self._request, self._model),
            messages=messages,
        )
        fit_limit(self._body, self._request, self._target, self._ignored)
        self._write_tools()
        self._write_response_format()
        write_thinking(self._body, self._request.reasoning, self._model, self._ignored)
        self._write_sampling()
        self._write_stop()
        if self._system:
            self._body["system"] = _write_system(self._system)
        if self._request.user:
            self._body["metadata"] = {"user_id": self._request.user}
        return self._body

    def _refuse_alternatives(self) -> None:
        request = self._request
        if request.n > 1:
            raise UnsupportedRequest(
                "Anthropic Messages supports only one answer per request: n must be 1."
            )
        unspoken = {
            "seed": request.seed is not None,
            "logprobs": request.logprobs,
            "top_logprobs": bool(request.top_logprobs),
            "frequency_penalty": bool(request.frequency_penalty),
            "presence_penalty": bool(request.presence_penalty),
        }
        self._ignored += [name for name, is_asked in unspoken.items() if is_asked]

    def _messages(self) -> list[dict[str, Any]]:
        """Returns the turns, with consecutive turns of one role merged as the vendor would merge
        them.

        System messages are moved to the front and joined by a line end, as Anthropic's own
        compatibility layer does: https://platform.claude.com/docs/en/api/openai-sdk.
        """
        parts = (part for message in self._request.messages for part in message.content)
        if arguments_exceed(parts, REQUEST_LIMITS):
            raise UnsupportedRequest(
                f"The arguments of the tool calls hold more than {REQUEST_LIMITS}."
            )
        if self._request.system_prompt:
            self._system.append(TextPart(self._request.system_prompt))
        turns: list[dict[str, Any]] = []
        for message in self._request.messages:
            if message.role is Role.SYSTEM:
                self._system += self._system_texts(message)
                continue
            if message.name:
                self._ignored.append("name")
            role = "assistant" if message.role is Role.ASSISTANT else "user"
            blocks = list(self._blocks(message))
            if not blocks:
                continue
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
        if not turns and self._system:
            # The vendor requires a user turn, so instructions alone are sent as the user's.
            said = [write_block(part, self._ignored) for part in self._system]
            turns.append({"role": "user", "content": said})
            self._system = []
        if not turns:
            raise UnsupportedRequest("Anthropic Messages requires a message with text.")
        for turn in turns:
            # Tool results come first in the turn that answers the calls.
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
        last = turns[-1]["content"][-1]
        if turns[-1]["role"] == "assistant" and last["type"] == "text":
            # The vendor refuses a prefill that ends with white space.
            last["text"] = last["text"].rstrip()
        return turns

    def _system_texts(self, message: Message) -> Iterator[TextPart]:
        for part in message.content:
            if not isinstance(part, TextPart):
                raise UnsupportedRequest(
                    "Anthropic Messages supports only text in a system prompt."
                )
            if part.text.strip():
                yield part

    def _blocks(self, message: Message) -> Iterator[dict[str, Any]]:
        for part in message.content:
            block = write_block(part, self._ignored)
            if block is not None:
                yield block

    def _write_tools(self) -> None:
        request = self._request
        if not request.tools:
            return
        self._body["tools"] = [_write_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        if choice is None and request.parallel_tool_calls is False:
            choice = ToolChoice(ToolChoiceMode.AUTO)
        if choice is None:
            return
        written: dict[str, Any] = {"type": _CHOICE_TYPES[choice.mode]}
        if choice.mode is ToolChoiceMode.NAMED:
            written["name"] = choice.name
        if request.parallel_tool_calls is False and choice.mode is not ToolChoiceMode.NONE:
            written["disable_parallel_tool_use"] = True
        self._body["tool_choice"] = written

    def _write_response_format(self) -> None:
        wanted = self._request.response_format
        if wanted is None or wanted.kind is AnswerFormat.TEXT:
            return
        schema = wanted.schema or {}
        if wanted.kind is AnswerFormat.JSON_OBJECT or schema.keys() <= _ANY_OBJECT:
            # Without a schema the vendor enforces nothing, so the model is asked for JSON.
            self._system.append(TextPart(_JSON_INSTRUCTION))
            self._ignored.append("response_format")
            return
        if not self._model.offers(Capability.JSON_SCHEMA):
            raise UnsupportedRequest(
                f"The model {self._model.key} does not support JSON Schema output."
            )
        try:
            written, is_told = supported_schema(schema)
        except UnsupportedSchemaError:
            raise UnsupportedRequest(
                "Anthropic's structured outputs do not support this JSON Schema."
            ) from None
        if is_told:
            self._ignored.append("response_format")
        if wanted.description:
            written.setdefault("description", wanted.description)
        self._body["output_config"] = {"format": {"type": "json_schema", "schema": written}}

    def _write_sampling(self) -> None:
        request = self._request
        wanted = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
        }
        for name, value in wanted.items():
            if value is None:
                continue
            refused = (
                self._model.refuses_sampling
                or "thinking" in self._body
                # Since Claude 4.5 only one of the two is accepted.
                or (name == "top_p" and request.temperature is not None)
            )
            if not refused:
                self._body[name] = value
            elif self._was_asked(name):
                self._ignored.append(name)
        if self._body.get("temperature", 0) > 1:
            self._body["temperature"] = 1.0
            self._ignored.append("temperature")

    def _was_asked(self, name: str) -> bool:
        """Returns whether the caller set the field. Settings of the route are not reported."""
        source = self._request.source
        return source is None or source.body.get(name) is not None

    def _write_stop(self) -> None:
        stop = [sequence for sequence in self._request.stop if sequence.strip()]
        if len(stop) < len(self._request.stop):
            self._ignored.append("stop")
        if stop:
            self._body["stop_sequences"] = stop


def _write_system(texts: Sequence[TextPart]) -> str | list[dict[str, Any]]:
    """Returns one text, or blocks if one of them has a cache mark."""
    if all(part.cache_control is None for part in texts):
        return "\n".join(part.text for part in texts)
    return [block for part in texts if (block := write_block(part, []))]


def _write_tool(tool: Tool | ForeignTool) -> dict[str, Any]:
    if isinstance(tool, ForeignTool):
        if tool.format != ANTHROPIC_MESSAGES:
            raise UnsupportedRequest(f"Anthropic Messages cannot express a tool of {tool.format}.")
        return dict(tool.data)
    schema = object_schema(tool.parameters)
    written: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        written["description"] = tool.description
    if tool.cache_control is not None:
        written["cache_control"] = tool.cache_control
    if tool.strict:
        written["strict"] = True
    return written
