"""The vendors' endpoints: the wire format, the reader and the writer of each.

`server` receives the requests, `wire` sends the answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import anthropic_answers, openai_answers
from .anthropic_questions import read_count, read_messages
from .catalogue import admit
from .faults import Faults
from .openai_embeddings import read_embeddings, write_embeddings
from .openai_questions import read_chat
from .reply import Streamed, Whole
from .threads import Threads


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request: its body, its model, a digest that identifies it, and the directives found
    in the model's name."""

    body: Mapping[str, Any]
    model: str
    digest: str
    directives: tuple[str, ...] = ()
    threads: Threads = field(default_factory=Threads)

    @property
    def request_id(self) -> str:
        """The vendor's id of the request."""
        return f"req_{self.digest[:24]}"


Write = Callable[[Faults], Whole | Streamed]
# Returns the directives found in a request's text, and a function that writes the answer.
Read = Callable[[ParsedRequest], tuple[tuple[str, ...], Write]]


class Face(Protocol):
    """Base class of the endpoints of one wire format."""

    request_id_header: str

    def error(
        self, status: int, request_id: str, message: str, code: str | None, param: str | None
    ) -> bytes:
        """Returns the envelope of an error."""

    def error_in_200(self, request_id: str, message: str, code: str | None) -> bytes:
        """Returns the envelope of an error that is sent with status 200."""


class OpenAIFace:
    """OpenAI's envelope and headers."""

    request_id_header = "x-request-id"

    def error(
        self, status: int, request_id: str, message: str, code: str | None, param: str | None
    ) -> bytes:
        """Returns the envelope of an error."""
        return openai_answers.error_body(status, message, code, param)

    def error_in_200(self, request_id: str, message: str, code: str | None) -> bytes:
        """Returns the envelope of an error that is sent with status 200."""
        return openai_answers.error_body(500, message, code)


class AnthropicFace:
    """Anthropic's envelope and headers."""

    request_id_header = "request-id"

    def error(
        self, status: int, request_id: str, message: str, code: str | None, param: str | None
    ) -> bytes:
        """Returns the envelope of an error; a fault's code replaces its type."""
        return anthropic_answers.error_body(status, request_id, message, code)

    def error_in_200(self, request_id: str, message: str, code: str | None) -> bytes:
        """Returns the envelope of an error that is sent with status 200."""
        return anthropic_answers.error_body(529, request_id, message, code)


OPENAI: Face = OpenAIFace()
ANTHROPIC: Face = AnthropicFace()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: its wire format, its reader, and whether it needs a model that embeds (None:
    any)."""

    face: Face
    read: Read
    embeds: bool | None = False


def _chat(parsed: ParsedRequest) -> tuple[tuple[str, ...], Write]:
    question = read_chat(parsed.body, parsed.model, parsed.digest)
    directives = question.question.directives
    return directives, lambda faults: openai_answers.write_chat(question, faults)


def _embeddings(parsed: ParsedRequest) -> tuple[tuple[str, ...], Write]:
    question = read_embeddings(parsed.body, parsed.model)
    return question.directives, lambda faults: write_embeddings(question, faults)


def _messages(parsed: ParsedRequest) -> tuple[tuple[str, ...], Write]:
    body = parsed.threads.resumed(parsed.body)
    question = read_messages(body, parsed.model, parsed.digest)

    def write(faults: Faults) -> Whole | Streamed:
        parsed.threads.keep(body, *anthropic_answers.held(question, faults))
        return anthropic_answers.write_messages(question, faults, parsed.request_id)

    return question.directives, write


def _count_tokens(parsed: ParsedRequest) -> tuple[tuple[str, ...], Write]:
    question = read_count(parsed.body, parsed.model, parsed.digest)
    return question.directives, lambda faults: Whole(anthropic_answers.count_body(question))


def _openai_models(parsed: ParsedRequest) -> tuple[tuple[str, ...], Write]:
    name = parsed.model
    body = openai_answers.model_body(name) if name else openai_answers.models_body()
    return (), lambda faults: Whole(body)


def _anthropic_models(parsed: ParsedRequest) -> tuple[tuple[str, ...], Write]:
    name = parsed.model
    body = anthropic_answers.model_body(name) if name else anthropic_answers.models_body()
    return (), lambda faults: Whole(body)


POST_ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(OPENAI, _chat),
    "/v1/embeddings": Endpoint(OPENAI, _embeddings, embeds=True),
    "/v1/messages": Endpoint(ANTHROPIC, _messages),
    "/v1/messages/count_tokens": Endpoint(ANTHROPIC, _count_tokens),
}
_MODELS_PATH = "/v1/models"
_MODELS = {
    OPENAI: Endpoint(OPENAI, _openai_models, embeds=None),
    ANTHROPIC: Endpoint(ANTHROPIC, _anthropic_models, embeds=None),
}


def face_of(path: str, headers: Mapping[str, str]) -> Face:
    """Returns the wire format of a request, by its path; by Anthropic's header if both formats have
    the path."""
    if path in POST_ENDPOINTS:
        return POST_ENDPOINTS[path].face
    return ANTHROPIC if "anthropic-version" in headers else OPENAI


def find(method: str, path: str, face: Face) -> Endpoint | None:
    """Returns the endpoint of a request; None if there is none."""
    if method == "POST":
        return POST_ENDPOINTS.get(path)
    if method == "GET" and (path == _MODELS_PATH or model_of(path)):
        return _MODELS[face]
    return None


def model_of(path: str) -> str:
    """Returns the model in the path of a model's page; empty for other paths."""
    prefix = f"{_MODELS_PATH}/"
    return path.removeprefix(prefix) if path.startswith(prefix) else ""


def check_model(endpoint: Endpoint, parsed: ParsedRequest, refuse_unknown: bool) -> None:
    """Raises `BadRequest` if the model does not support this endpoint. Only listed models have a
    page."""
    if endpoint.embeds is not None:
        admit(parsed.model, embeds=endpoint.embeds, refuse_unknown=refuse_unknown)
    elif parsed.model:
        admit(parsed.model, embeds=None, refuse_unknown=True)
