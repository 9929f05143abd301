"""API keys in the headers of a request: a bearer token or `x-api-key`, on every endpoint alike.

Whether a key is good is for `llm_routing.access`.
"""

from collections.abc import Mapping

from django.http import HttpRequest
from ninja.security import APIKeyHeader, HttpBearer

from llm_routing.access import keys
from llm_routing.core.types import Caller

from .exchange import Readable


class BearerKey(HttpBearer):
    """`Authorization: Bearer sk-llm-…`"""

    async def __call__(self, request: HttpRequest) -> Caller | None:
        """The caller; None without such a header. Raises `Unauthenticated`, `AccessUnavailable`."""
        key = _bearer_key(request.headers)
        return None if key is None else await self.authenticate(request, key)

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


KEY_REQUIRED = [BearerKey(), HeaderKey()]


async def caller_if_any(request: Readable) -> Caller | None:
    """The caller, None where the request bears no key. Raises as the classes above do."""
    key = _bearer_key(request.headers)
    if key is None:
        key = request.headers.get(HeaderKey.param_name)
    return None if key is None else await keys.authenticate(key)


def _bearer_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip(" ") if scheme.lower() == "bearer" else None
