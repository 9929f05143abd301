"""Reads and decodes a request's body within its limits.

Endpoints and wire formats interpret it.
"""

from typing import Any

from llm_routing.conf import get_settings
from llm_routing.core.caching.idempotency import FIELD, idempotency, unquoted
from llm_routing.core.codec import TooManyValues, decode
from llm_routing.core.errors import InvalidRequest, RequestTooLarge
from llm_routing.core.json_size import REQUEST_LIMITS
from llm_routing.core.types import Idempotency
from llm_routing.process.admission import admission
from llm_routing.serving.exchange import IncomingRequest
from llm_routing.serving.request_limits import body_too_large


def read_json(request: IncomingRequest) -> Any:
    """Returns the decoded body, whatever its Content-Type. Raises `Overloaded` and
    `RequestTooLarge`, both before reading if Content-Length is sent, and `InvalidRequest` with the
    position of a syntax error."""
    return _decoded(_read_plain(request))


def read_idempotent(request: IncomingRequest) -> tuple[Any, Idempotency | None]:
    """Returns the body as `read_json` does, and the idempotency of a request with an
    Idempotency-Key unless settings ignore it. Also raises `InvalidRequest` for an invalid key."""
    key = request.headers.get(FIELD)
    if key is None or not get_settings().idempotency_ttl:
        return _decoded(_read_plain(request)), None
    body = _read_plain(request)
    scope = f"{request.method} {request.path}"
    return _decoded(body), idempotency(unquoted(key), scope, (scope, body))


def read_body(request: IncomingRequest, limit: int) -> bytes:
    """Returns the whole body, at most `limit` bytes. Raises `RequestTooLarge`.

    Reads the stream, because `request.body` enforces DATA_UPLOAD_MAX_MEMORY_SIZE, which is meant
    for forms.
    """
    announced = request.headers.get("content-length", "")
    if not (announced.isdecimal() and int(announced) > limit):
        body = request.read(limit + 1)
        if len(body) <= limit:
            return body
    raise body_too_large(limit)


def _read_plain(request: IncomingRequest) -> bytes:
    admission.check()
    encoding = request.headers.get("content-encoding")
    if encoding is not None and encoding != "identity":
        raise InvalidRequest("Compressed bodies are not supported; send plain JSON.")
    return read_body(request, get_settings().max_body_bytes)


def _decoded(body: bytes) -> Any:
    try:
        return decode(body, REQUEST_LIMITS)
    except TooManyValues:
        raise RequestTooLarge(
            f"The body holds more than {REQUEST_LIMITS}. Send a smaller request."
        ) from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
