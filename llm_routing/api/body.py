"""A request's body, read within its limit and decoded.

What is in it is for the endpoints and the wire formats.
"""

from typing import Any

from django.http import HttpRequest

from llm_routing.conf import get_settings
from llm_routing.core.codec import decode
from llm_routing.core.errors import InvalidRequest, RequestTooLarge


def read_json(request: HttpRequest) -> Any:
    """The decoded body, whatever Content-Type says. Raises `RequestTooLarge` (before reading,
    where Content-Length tells), `InvalidRequest` with the position of what is no JSON."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise InvalidRequest("Compressed bodies are not supported; send plain JSON.")
    try:
        return decode(read_body(request, get_settings().max_body_bytes))
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None


def read_body(request: HttpRequest, limit: int) -> bytes:
    """The whole body, `limit` bytes at most. Raises `RequestTooLarge`.

    Read from the stream: `request.body` would hold it against DATA_UPLOAD_MAX_MEMORY_SIZE, which
    is made for forms.
    """
    too_large = RequestTooLarge(f"The body is larger than {limit} bytes.")
    announced = request.META.get("CONTENT_LENGTH", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    body = request.read(limit + 1)
    if len(body) > limit:
        raise too_large
    return body
