"""Errors of the HTTP API: three envelopes, and the conversion of other exceptions.

`core.errors` defines the errors themselves; OpenAI's and Anthropic's envelopes belong to their
formats.
"""

import logging
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import Http404
from ninja.errors import HttpError
from pydantic import ValidationError

from llm_routing.core.codec import encode
from llm_routing.core.errors import (
    InvalidRequest,
    LLMError,
    RequestError,
    Unauthenticated,
    UnknownModel,
)
from llm_routing.core.types import Caller
from llm_routing.formats.registry import FORMATS
from llm_routing.serving.exchange import EndpointResponse

from .request_log import log_error_response

logger = logging.getLogger(__name__)

JSON = "application/json"
RETRY_AFTER = 5
"""Retry-After in seconds if nothing is available and the time of recovery is not known."""

MAX_FIELD_ERRORS = 20
_LONGEST_PATH = 200


class UnknownEndpoint(RequestError):
    """No endpoint at this path."""

    code = "unknown_endpoint"
    http_status = 404


class MethodNotAllowed(RequestError):
    """The endpoint does not take this method; `allow` lists those it does."""

    code = "method_not_allowed"
    http_status = 405

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class InternalError(LLMError):
    """An internal error. The log has its cause under the request ID."""

    code = "internal_error"


class InvalidFields(InvalidRequest):
    """Several fields are invalid; `fields` maps the path of each to its problem."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        path, message = fields[0]
        super().__init__(f"{path}: {message}." if path else f"{message}.", field=path or None)
        self.fields = tuple(fields)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The error body of an endpoint. `id_headers` are the response headers with the request ID."""

    status: Callable[[LLMError], int]
    body: Callable[[LLMError, str], bytes]
    id_headers: tuple[str, ...] = ("x-request-id",)


def native_status(error: LLMError) -> int:
    """Returns 422 for a JSON body with an invalid field."""
    is_field = isinstance(error, InvalidRequest) and error.field is not None
    return 422 if is_field else error.http_status


def native_body(error: LLMError, request_id: str) -> dict[str, Any]:
    """The native envelope; `schemas.ErrorAnswer` documents it."""
    details: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "retry_after": _retry_after(error),
        "fields": [],
        "known": list(error.known) if isinstance(error, UnknownModel) else [],
        "attempts": [
            {"target": f"{attempt.provider}/{attempt.model}", "reason": attempt.error_code}
            for attempt in error.attempts
        ],
    }
    if isinstance(error, InvalidFields):
        details["fields"] = [{"field": path, "message": words} for path, words in error.fields]
    elif isinstance(error, InvalidRequest) and error.field is not None:
        details["fields"] = [{"field": error.field, "message": error.message}]
    return {"error": details, "request_id": request_id}


def _native(error: LLMError, request_id: str) -> bytes:
    return encode(native_body(error, request_id))


def _http_status(error: LLMError) -> int:
    return error.http_status


NATIVE = Envelope(native_status, _native)
OPENAI = Envelope(_http_status, FORMATS["openai_chat"].write_error)
ANTHROPIC = Envelope(
    _http_status, FORMATS["anthropic_messages"].write_error, ("x-request-id", "request-id")
)


def error_response(
    error: LLMError, envelope: Envelope, request_id: str, caller: Caller | None
) -> EndpointResponse:
    """Returns and logs the response to a failed request. `caller` is None without a valid key."""
    reply = EndpointResponse(
        envelope.body(error, request_id), {"Content-Type": JSON}, envelope.status(error)
    )
    log_error_response(error, reply.status, request_id, caller)
    seconds = _retry_after(error)
    if seconds is not None:
        reply.headers["Retry-After"] = str(seconds)
    if error.attempts:
        reply.headers["x-llm-attempts"] = str(len(error.attempts))
    reply.headers.update(error.upstream_headers)
    if isinstance(error, Unauthenticated):
        reply.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        reply.headers["Allow"] = error.allow
    return reply


def as_llm_error(error: Exception, request_id: str) -> LLMError:
    """Converts an exception for the caller. Our own errors are returned unchanged. Any other
    becomes `InternalError`; the log has its traceback but not its message, which may quote a
    prompt."""
    if isinstance(error, LLMError):
        return error
    if isinstance(error, HttpError) and error.status_code == 401:
        return missing_key_error()
    if isinstance(error, Http404):
        return UnknownEndpoint("There is nothing at this path.")
    logger.error(
        "Request %s failed with %s:\n%s",
        request_id,
        type(error).__name__,
        "".join(traceback.format_tb(error.__traceback__)),
    )
    return InternalError("Internal error. The gateway's log has the cause under the request ID.")


def missing_key_error() -> Unauthenticated:
    """Returns the error for a request without a key."""
    return Unauthenticated(
        "An API key is needed: Authorization: Bearer sk-llm-…, or x-api-key: sk-llm-…"
    )


def invalid_fields(error: ValidationError) -> InvalidFields:
    """Converts a pydantic error, without the rejected values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return InvalidFields(
        [
            (".".join(str(step) for step in item["loc"])[:_LONGEST_PATH], item["msg"].rstrip("."))
            for item in found[:MAX_FIELD_ERRORS]
        ]
    )


def _retry_after(error: LLMError) -> int | None:
    """Returns seconds, rounded up for Retry-After (RFC 9110, 10.2.3); None if waiting does not
    help."""
    seconds = error.retry_after
    if seconds is not None and math.isfinite(seconds):
        return max(math.ceil(seconds), 0)
    return RETRY_AFTER if error.http_status == 503 else None
