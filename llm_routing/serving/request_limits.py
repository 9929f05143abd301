"""Limits on requests of unauthenticated clients, on every path of the server.

Bodies of the app's own endpoints are limited in `asgi`, where the key is known; limits that an ASGI
application cannot see, because its server has not parsed the head yet, are in `uvicorn_internals`.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from importlib import import_module
from itertools import chain
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.handlers.asgi import ASGIRequest

from llm_routing.conf import Settings, get_settings
from llm_routing.core import timers
from llm_routing.core.errors import (
    HeadersTooLarge,
    LLMError,
    RequestTimedOut,
    RequestTooLarge,
    UrlTooLong,
)

from .uvicorn_internals.writes import abort

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]
SendError = Callable[[LLMError, Send], Awaitable[None]]

BODY_TIMEOUT = 60.0
"""Seconds that a body may take; also the longest silence within a signed-in user's body, and the
longest time that a client may leave a response unread."""


def body_too_large(limit: int) -> RequestTooLarge:
    """Returns the error for a body of more than `limit` bytes, which MAX_BODY_BYTES sets."""
    return RequestTooLarge(
        f"The body is larger than {limit} bytes, the limit of the setting MAX_BODY_BYTES. Send a "
        "smaller request, for example fewer or smaller images, or ask the operator to raise the "
        "setting."
    )


def head_error(scope: Scope, settings: Settings) -> LLMError | None:
    """Returns the error if the head of a request exceeds a limit. Takes linear time."""
    headers = scope["headers"]
    if len(headers) > settings.max_header_lines:
        return HeadersTooLarge(
            f"The request has more than {settings.max_header_lines} header lines, the limit of the "
            "setting MAX_HEADER_LINES. Send fewer headers."
        )
    if len(b"".join(chain.from_iterable(headers))) > settings.max_header_bytes:
        return HeadersTooLarge(
            f"The request's headers are larger than {settings.max_header_bytes} bytes, the limit "
            "of the setting MAX_HEADER_BYTES. Send smaller headers, for example fewer cookies."
        )
    if len(scope["path"]) + len(scope.get("query_string", b"")) > settings.max_header_bytes:
        return UrlTooLong(
            f"The URL is longer than {settings.max_header_bytes} bytes, the limit of the setting "
            "MAX_HEADER_BYTES."
        )
    return None


async def serve_with_limits(
    application: Application, scope: Scope, receive: Receive, send: Send, *, send_error: SendError
) -> None:
    """Serves a request by an application that itself reads bodies without a limit. Django is one:
    it writes large bodies to disk before a view sees them. Errors are sent with `send_error`."""
    body = _LimitedBody(scope, receive)
    has_started = has_stalled = False

    async def watched_send(event: Mapping[str, Any]) -> None:
        nonlocal has_started, has_stalled
        has_started = True
        # uvicorn itself waits without limit for a client that does not read.
        try:
            with timers.timeout(BODY_TIMEOUT):
                await send(event)
        except TimeoutError:
            has_stalled = True
            await abort(send)
            raise

    if not await body.refuses_announced():
        try:
            await application(scope, body.receive, watched_send)
        except Exception:
            # An expected error: its body or its response was cut off here.
            if not has_stalled and (body.problem is None or has_started):
                raise
    if body.problem is not None and not has_started:
        await send_error(body.problem, send)


class _LimitedBody:
    """The body of a request to a path outside this app. If it exceeds a limit, the application sees
    a disconnect, and `problem` holds the error."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.problem: LLMError | None = None
        self._scope = scope
        self._receive = receive
        self._limit = get_settings().anonymous_body_bytes
        self._size = 0
        self._is_whole = False
        self._is_signed_in: bool | None = None
        self._deadline = asyncio.get_running_loop().time() + BODY_TIMEOUT

    async def refuses_announced(self) -> bool:
        """Returns whether Content-Length announces a body that is too large."""
        for name, value in self._scope["headers"]:
            is_length = name == b"content-length" and value.isdigit()
            if is_length and not await self._takes(int(value[:20])):
                return True
        return False

    async def receive(self) -> Mapping[str, Any]:
        """See ASGI."""
        if self._is_whole:
            return await self._receive()
        if self.problem is not None:
            return {"type": "http.disconnect"}
        seconds = BODY_TIMEOUT
        if not self._is_signed_in:
            seconds = max(0.0, self._deadline - asyncio.get_running_loop().time())
        try:
            with timers.timeout(seconds):
                event = await self._receive()
        except TimeoutError:
            self.problem = RequestTimedOut(f"The body took longer than {BODY_TIMEOUT:.0f} s.")
            return {"type": "http.disconnect"}
        self._is_whole = not event.get("more_body", False)
        self._size += len(event.get("body", b""))
        return event if await self._takes(self._size) else {"type": "http.disconnect"}

    async def _takes(self, size: int) -> bool:
        if size <= self._limit:
            return True
        if self._is_signed_in is None:
            self._is_signed_in = await _is_signed_in(self._scope)
        if not self._is_signed_in:
            self.problem = RequestTooLarge(
                f"The body is larger than {self._limit} bytes, the limit of the setting "
                "ANONYMOUS_BODY_BYTES for requests without a signed-in user. Sign in, or ask the "
                "operator to raise the setting."
            )
        return self._is_signed_in


async def _is_signed_in(scope: Scope) -> bool:
    """Returns whether the request has the session of a signed-in user."""
    if not (
        apps.is_installed("django.contrib.auth") and apps.is_installed("django.contrib.sessions")
    ):
        return False
    from django.contrib.auth import aget_user

    request = ASGIRequest(dict(scope), io.BytesIO())
    key = request.COOKIES.get(django_settings.SESSION_COOKIE_NAME)
    if not key:
        return False
    request.session = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    return (await aget_user(request)).is_authenticated
