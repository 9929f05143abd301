"""API keys in the headers of a request: a bearer token or `x-api-key`, on every endpoint.

`llm_routing.access.api_keys` decides whether a key is valid.
"""

from collections.abc import Mapping

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from ninja.security import APIKeyHeader, HttpBearer

from llm_routing.access.api_keys import api_keys
from llm_routing.core.errors import LLMError
from llm_routing.core.types import Caller
from llm_routing.serving.transport_security import refuse_plain_http

_OUTCOME = "_llm_routing_caller"


class BearerKey(HttpBearer):
    """`Authorization: Bearer sk-llm-…`"""

    async def __call__(self, request: HttpRequest) -> Caller | None:
        """Returns the caller, or None without such a header. Raises `Unauthenticated`,
        `AccessUnavailable`."""
        key = _bearer_key(request.headers)
        return None if key is None else await self.authenticate(request, key)

    async def authenticate(self, request: HttpRequest, token: str) -> Caller:
        """Returns the caller with the key `token`. Raises `Unauthenticated`,
        `AccessUnavailable`."""
        return await _authenticated(request, token)


class HeaderKey(APIKeyHeader):
    """`x-api-key: sk-llm-…`, as Anthropic's clients send it."""

    param_name = "x-api-key"

    async def __call__(self, request: HttpRequest) -> Caller | None:
        """See `BearerKey`."""
        key = request.headers.get(self.param_name)
        return None if key is None else await self.authenticate(request, key)

    async def authenticate(self, request: HttpRequest, key: str | None) -> Caller:
        """See `BearerKey`."""
        return await _authenticated(request, key or "")


KEY_REQUIRED = [BearerKey(), HeaderKey()]


async def optional_caller(request: HttpRequest) -> Caller | None:
    """Returns the caller, or None if the request has no key. Raises like the classes above."""
    key = sent_key(request.headers)
    return None if key is None else await _authenticated(request, key)


async def _authenticated(request: HttpRequest, key: str) -> Caller:
    """Checks the key of a request once, although several layers ask for the caller. So a rejected
    key is counted once."""
    known: Caller | LLMError | None = getattr(request, _OUTCOME, None)
    if known is None:
        try:
            if isinstance(request, ASGIRequest):
                refuse_plain_http(request.scope)
            known = await api_keys.authenticate(key, request.META.get("REMOTE_ADDR") or "")
        except LLMError as error:
            known = error
        setattr(request, _OUTCOME, known)
    if isinstance(known, LLMError):
        raise known
    return known


def sent_key(headers: Mapping[str, str]) -> str | None:
    """Returns the API key in the headers of a request; None if there is none."""
    key = _bearer_key(headers)
    return headers.get(HeaderKey.param_name) if key is None else key


def _bearer_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip(" ") if scheme.lower() == "bearer" else None
