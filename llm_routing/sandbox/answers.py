"""The sandbox's answers, independent of a wire format: text, tool calls, reasoning, stop reason.

Equal questions get equal answers. The modules of the formats read questions and write answers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .faults import Faults
from .fields import BadRequest
from .schema import UnsatisfiableSchema, example

_PIECE = re.compile(r"\s*\S{1,12}|\s+")
_MAX_ECHO = 4_000
_MAX_PROMPT_ECHO = 80
_MAX_PIECES = 200_000


class Stop(StrEnum):
    """The reason why an answer ends."""

    END = "end"
    LENGTH = "length"
    TOOL = "tool"
    SEQUENCE = "sequence"
    REFUSAL = "refusal"
    FILTER = "filter"


class ToolMode(StrEnum):
    """Whether tools may, must or must not be called."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that may be called, with the JSON schema of its arguments."""

    name: str
    schema: Any


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A request for a completion, reduced to the parts that determine the answer.

    `results` are the tool results at the end of the conversation; `digest` identifies the request;
    `schema` is the JSON schema that the answer must satisfy, `json_mode` asks for any JSON object.
    """

    model: str
    digest: str
    user_text: str
    directives: tuple[str, ...] = ()
    system: str = ""
    turn: int = 1
    results: tuple[ToolResult, ...] = ()
    images: tuple[str, ...] = ()
    tools: tuple[ToolOffer, ...] = ()
    tool_mode: ToolMode = ToolMode.AUTO
    tool_name: str | None = None
    parallel: bool = True
    schema: Any = None
    json_mode: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    reasoning: bool = False
    stream: bool = False
    prompt_tokens: int = 0
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; the arguments are JSON text in pieces."""

    id: str
    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice, in pieces of one token each."""

    text: tuple[str, ...]
    stop: Stop
    reasoning: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    stop_sequence: str | None = None

    @property
    def tokens(self) -> int:
        """Output tokens, reasoning included."""
        arguments = sum(len(call.arguments) for call in self.calls)
        return len(self.reasoning) + len(self.text) + arguments


def pieces(text: str) -> tuple[str, ...]:
    """Splits a text into tokens: a word with the space before it, long words in parts."""
    return tuple(_PIECE.findall(text))


def answer(question: Question, faults: Faults) -> tuple[Answer, ...]:
    """Returns the choices that answer a question. Raises `BadRequest` if a schema cannot be
    satisfied."""
    if faults.empty_choices:
        return ()
    return tuple(_choice(question, faults, index) for index in range(question.n))


def _choice(question: Question, faults: Faults, index: int) -> Answer:
    if faults.refusal:
        return _bounded(question, "I cannot help with that.", Stop.REFUSAL)
    called = () if question.results else _called(question)
    if called:
        names = " and ".join(tool.name for tool in called)
        calls = tuple(
            Call(f"{question.digest[:16]}{index}{number}", tool.name, _arguments(tool))
            for number, tool in enumerate(called)
        )
        return _bounded(question, f"I will call {names}.", Stop.TOOL, calls)
    text = _text(question, faults)
    if index:
        text = text if question.schema is not None else f"Alternative {index + 1}. {text}"
    stop = Stop.FILTER if faults.content_filter else Stop.END
    return _bounded(question, text, stop)


def _called(question: Question) -> tuple[ToolOffer, ...]:
    """Returns the tools to call: the required one, else those named in the user's text, else the
    first if a call is required."""
    if question.tool_mode is ToolMode.NONE or not question.tools:
        return ()
    if question.tool_name is not None:
        return tuple(tool for tool in question.tools if tool.name == question.tool_name)
    named = tuple(
        tool
        for tool in question.tools
        if re.search(rf"(?<![\w-]){re.escape(tool.name)}(?![\w-])", question.user_text)
    )
    if not named and question.tool_mode is ToolMode.REQUIRED:
        named = question.tools[:1]
    return named if question.parallel else named[:1]


def _arguments(tool: ToolOffer) -> tuple[str, ...]:
    try:
        value = example(tool.schema)
    except UnsatisfiableSchema as error:
        raise BadRequest(f"Invalid schema for the tool {tool.name!r}: {error}", "tools") from error
    return pieces(json.dumps(value, ensure_ascii=False))


def _text(question: Question, faults: Faults) -> str:
    if faults.echo_request:
        return json.dumps(question.body, ensure_ascii=False, sort_keys=True)
    if faults.words is not None:
        count = min(faults.words, _MAX_PIECES // question.n)
        return " ".join(f"word{number}" for number in range(1, count + 1))
    if question.schema is not None:
        try:
            return json.dumps(example(question.schema), ensure_ascii=False)
        except UnsatisfiableSchema as error:
            raise BadRequest(f"Invalid schema: {error}", "response_format") from error
    said = " ".join(_sentences(question))
    return json.dumps({"answer": said}, ensure_ascii=False) if question.json_mode else said


def _sentences(question: Question) -> Sequence[str]:
    said = [f"This is {question.model}, a sandbox that answers without a language model."]
    if question.results:
        said += [
            f'The tool {result.name} returned: "{result.text}".' for result in question.results
        ]
    else:
        said.append(f'You said: "{question.user_text[:_MAX_ECHO]}".')
    if question.images:
        count = len(question.images)
        noun = "image" if count == 1 else "images"
        said.append(f"You showed me {count} {noun}: {', '.join(question.images)}.")
    if question.system:
        said.append(f'My instructions begin: "{question.system[:_MAX_PROMPT_ECHO]}".')
    if question.turn > 1:
        said.append(f"This is turn {question.turn} of our conversation.")
    return said


def _bounded(question: Question, text: str, stop: Stop, calls: tuple[Call, ...] = ()) -> Answer:
    """Cuts the answer at the first stop sequence in its text and at `max_tokens`."""
    sequence = None
    found = [(text.find(each), each) for each in question.stop if each and each in text]
    if found and not calls:
        position, sequence = min(found)
        text, stop = text[:position], Stop.SEQUENCE
    thought = "The user asked; I repeat what I was given." if question.reasoning else ""
    whole = Answer(pieces(text), stop, pieces(thought), calls, sequence)
    left = question.max_tokens
    if left is None or whole.tokens <= left:
        return whole
    reasoning = whole.reasoning[:left]
    left -= len(reasoning)
    words = whole.text[:left]
    left -= len(words)
    cut: list[Call] = []
    for call in calls:
        if left > 0:
            cut.append(Call(call.id, call.name, call.arguments[:left]))
            left -= len(cut[-1].arguments)
    return Answer(words, Stop.LENGTH, reasoning, tuple(cut))
