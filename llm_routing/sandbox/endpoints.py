"""The endpoints that vendors have: which wire format each speaks, who reads it and who answers.

How a request gets here and how an answer leaves is for `server` and `wire`.
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
class Asked:
    """One request as far as it was read: its body, the model named, what names the request, and
    the directives found in the model's name."""

    body: Mapping[str, Any]
    model: str
    digest: str
    directives: tuple[str, ...] = ()
    threads: Threads = field(default_factory=Threads)

    @property
    def request_id(self) -> str:
        """The vendor's name of the request."""
        return f"req_{self.digest[:24]}"


Write = Callable[[Faults], Whole | Streamed]
# Gives the directives found in a request's words, and what writes the answer.
Read = Callable[[Asked], tuple[tuple[str, ...], Write]]


class Face(Protocol):
    """Base class of the endpoints of one wire format."""

    request_id_header: str

    def error(
        self, status: int, request_id: str, message: str, code: str | None, param: str | None
    ) -> bytes:
        """The envelope of an error."""

    def error_in_200(self, request_id: str, message: str, code: str | None) -> bytes:
        """The envelope of an error that a status of 200 hides."""


class OpenAIFace:
    """OpenAI's envelope and headers."""

    request_id_header = "x-request-id"

    def error(
        self, status: int, request_id: str, message: str, code: str | None, param: str | None
    ) -> bytes:
        """The envelope of an error."""
        return openai_answers.error_body(status, message, code, param)

    def error_in_200(self, request_id: str, message: str, code: str | None) -> bytes:
        """The envelope of an error that a status of 200 hides."""
        return openai_answers.error_body(500, message, code)


class AnthropicFace:
    """Anthropic's envelope and headers."""

    request_id_header = "request-id"

    def error(
        self, status: int, request_id: str, message: str, code: str | None, param: str | None
    ) -> bytes:
        """The envelope of an error; a code of a fault takes the place of its type."""
        return anthropic_answers.error_body(status, request_id, message, code)

    def error_in_200(self, request_id: str, message: str, code: str | None) -> bytes:
        """The envelope of an error that a status of 200 hides."""
        return anthropic_answers.error_body(529, request_id, message, code)


OPENAI: Face = OpenAIFace()
ANTHROPIC: Face = AnthropicFace()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: its wire format, its reader, and what kind of model it wants, if any."""

    face: Face
    read: Read
    embeds: bool | None = False


def _chat(asked: Asked) -> tuple[tuple[str, ...], Write]:
    question = read_chat(asked.body, asked.model, asked.digest)
    directives = question.question.directives
    return directives, lambda faults: openai_answers.write_chat(question, faults)


def _embeddings(asked: Asked) -> tuple[tuple[str, ...], Write]:
    question = read_embeddings(asked.body, asked.model)
    return question.directives, lambda faults: write_embeddings(question, faults)


def _messages(asked: Asked) -> tuple[tuple[str, ...], Write]:
    body = asked.threads.resumed(asked.body)
    question = read_messages(body, asked.model, asked.digest)

    def write(faults: Faults) -> Whole | Streamed:
        asked.threads.keep(body, *anthropic_answers.held(question, faults))
        return anthropic_answers.write_messages(question, faults, asked.request_id)

    return question.directives, write


def _count_tokens(asked: Asked) -> tuple[tuple[str, ...], Write]:
    question = read_count(asked.body, asked.model, asked.digest)
    return question.directives, lambda faults: Whole(anthropic_answers.count_body(question))


def _openai_models(asked: Asked) -> tuple[tuple[str, ...], Write]:
    name = asked.model
    body = openai_answers.model_body(name) if name else openai_answers.models_body()
    return (), lambda faults: Whole(body)


def _anthropic_models(asked: Asked) -> tuple[tuple[str, ...], Write]:
    name = asked.model
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
    """The wire format a request is in, by its path; where both have it, by Anthropic's header."""
    if path in POST_ENDPOINTS:
        return POST_ENDPOINTS[path].face
    return ANTHROPIC if "anthropic-version" in headers else OPENAI


def find(method: str, path: str, face: Face) -> Endpoint | None:
    """The endpoint that a request is for, None where there is none."""
    if method == "POST":
        return POST_ENDPOINTS.get(path)
    if method == "GET" and (path == _MODELS_PATH or model_of(path)):
        return _MODELS[face]
    return None


def model_of(path: str) -> str:
    """The model whose page a path names, empty where it names none."""
    prefix = f"{_MODELS_PATH}/"
    return path.removeprefix(prefix) if path.startswith(prefix) else ""


def check_model(endpoint: Endpoint, asked: Asked, refuse_unknown: bool) -> None:
    """Raises `BadRequest` where the model does not serve this endpoint. A model's own page
    exists for those on offer alone."""
    if endpoint.embeds is not None:
        admit(asked.model, embeds=endpoint.embeds, refuse_unknown=refuse_unknown)
    elif asked.model:
        admit(asked.model, embeds=None, refuse_unknown=True)
