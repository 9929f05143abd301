"""Serves completions for `llm_routing.asgi` without Django's requests and responses.

The modules named after formats hold the endpoints, which also serve Django's handler. This module
replaces the work of `with_error_envelope` and of ninja's key check around them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llm_routing.access.api_keys import api_keys
from llm_routing.core.types import Caller
from llm_routing.serving.exchange import AuthenticatedRequest, EndpointResponse
from llm_routing.serving.shutdown import shutdown_error, was_cancelled_by_shutdown
from llm_routing.serving.transport_security import refuse_plain_http

from .auth import sent_key
from .error_envelope import EnvelopeOf
from .errors import as_llm_error, error_response, missing_key_error
from .headers import request_id_of

_MARK = "llm_routing_direct"


class Body(Protocol):
    """A body that is received once its caller is known."""

    async def fill(self, headers: Mapping[str, str], caller: Caller) -> bool:
        """Receives the body within its limits; returns False if the caller disconnected."""

    def read(self, size: int, /) -> bytes:
        """See `exchange.IncomingRequest`."""


class DirectRequest:
    """Implements `exchange.AuthenticatedRequest` over the ASGI scope."""

    __slots__ = ("auth", "headers", "method", "path", "read", "request_id")
    auth: Caller
    request_id: str

    def __init__(self, scope: Mapping[str, Any], body: Body) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = _headers(scope["headers"])
        self.read = body.read


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of the API, as `llm_routing.asgi` serves it."""

    answer: Callable[[AuthenticatedRequest], Awaitable[EndpointResponse]]
    envelope_of: EnvelopeOf

    async def respond(self, scope: Mapping[str, Any], body: Body) -> EndpointResponse | None:
        """Returns the response, also after an error; None if the caller left before the body
        arrived."""
        request = DirectRequest(scope, body)
        headers = request.headers
        request.request_id = request_id = request_id_of(headers)
        envelope = self.envelope_of(headers)
        caller: Caller | None = None
        try:
            key = sent_key(headers)
            if key is None:
                raise missing_key_error()
            refuse_plain_http(scope)
            client = scope.get("client")
            caller = await api_keys.authenticate(key, client[0] if client else "")
            request.auth = caller
            # Without a valid key no body is received.
            if not await body.fill(headers, caller):
                return None
            reply = await self.answer(request)
        except asyncio.CancelledError:
            if not was_cancelled_by_shutdown():
                raise
            reply = error_response(shutdown_error(), envelope, request_id, caller)
        except Exception as error:  # noqa: BLE001  # told, and logged where it is a fault
            reply = error_response(as_llm_error(error, request_id), envelope, request_id, caller)
        for name in envelope.id_headers:
            reply.headers[name] = request_id
        return reply


def register_direct_endpoint(view: Callable[..., Any], endpoint: Endpoint) -> None:
    """Registers `endpoint` to answer in place of Django's `view`."""
    setattr(view, _MARK, endpoint)


def direct_endpoint_of(view: Callable[..., Any]) -> Endpoint | None:
    """Returns the endpoint that answers in place of a view, if there is one."""
    endpoint: Endpoint | None = getattr(view, _MARK, None)
    return endpoint


def _headers(raw: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Returns the headers by name, in lower case as in ASGI. Repeated headers are joined, as in
    Django."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(headers) < len(raw):
        values: dict[str, list[str]] = {}
        for name, value in raw:
            values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        headers = {name: ",".join(parts) for name, parts in values.items()}
    return headers
