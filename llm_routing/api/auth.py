"""API keys in the headers of a request: a bearer token or `x-api-key`, on every endpoint alike.

Whether a key is good is for `llm_routing.access`.
"""

from django.http import HttpRequest
from ninja.security import APIKeyHeader, HttpBearer

from llm_routing.access import keys
from llm_routing.core.types import Caller


class BearerKey(HttpBearer):
    """`Authorization: Bearer sk-llm-…`"""

    async def __call__(self, request: HttpRequest) -> Caller | None:
        """The caller; None without such a header. Raises `Unauthenticated`, `AccessUnavailable`."""
        scheme, _, key = request.headers.get(self.header, "").partition(" ")
        if scheme.lower() != self.openapi_scheme:
            return None
        return await self.authenticate(request, key.strip(" "))

    async def authenticate(self, request: HttpRequest, token: str) -> Caller:
        """The caller who bears `token`. Raises `Unauthenticated`, `AccessUnavailable`."""
        return await keys.authenticate(token)


class HeaderKey(APIKeyHeader):
    """`x-api-key: sk-llm-…`, as Anthropic's clients send it."""

    param_name = "x-api-key"

    async def __call__(self, request: HttpRequest) -> Caller | None:
        """See `BearerKey`."""
        key = request.headers.get(self.param_name)
        return None if key is None else await self.authenticate(request, key)

    async def authenticate(self, request: HttpRequest, key: str | None) -> Caller:
        """See `BearerKey`."""
        return await keys.authenticate(key or "")


_BEARER, _HEADER = BearerKey(), HeaderKey()
KEY_REQUIRED = [_BEARER, _HEADER]


async def caller_if_any(request: HttpRequest) -> Caller | None:
    """The caller, None where the request bears no key. Raises as the classes above do."""
    return await _BEARER(request) or await _HEADER(request)
