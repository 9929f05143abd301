"""The ASGI application: the API without a thread started for a request, the rest by Django.

Django's own handler sends signals, middleware and file closing through threads; an endpoint of
this app needs none of them. To an API request both handlers give the same answers; a project's
middleware runs in Django's alone.
"""

import asyncio
import inspect
import io
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

import django
from django.core.asgi import get_asgi_application as get_django_application
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import Resolver404, ResolverMatch, get_resolver

from .conf import get_settings
from .core.errors import LLMError, RequestTimedOut, RequestTooLarge
from .lifecycle import Lifecycle

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMESPACE = "llm_routing"
BODY_SECONDS = 60.0


def get_asgi_application(*, exits_in_order: bool = False) -> "LeanApplication":
    """The application for a project's `asgi.py`, around Django's own.

    `exits_in_order` is for a process that is a server and nothing else: told to end by SIGTERM, it
    exits with 0 where the server would let it end by the signal.
    """
    return LeanApplication(
        get_django_application(), lifecycle=Lifecycle(exits_in_order=exits_in_order)
    )


class LeanApplication:
    """Serves the asynchronous views of the namespace `llm_routing` itself, without middleware;
    handles lifespan; hands everything else to `django_application`."""

    def __init__(
        self, django_application: Application, *, lifecycle: Lifecycle | None = None
    ) -> None:
        django.setup()
        self._django = django_application
        self._lifecycle = lifecycle or Lifecycle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, or the lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(self._lifecycle, receive, send)
            return
        with self._lifecycle.request():
            if scope["type"] == "websocket":
                # Django knows none, and would raise.
                await receive()
                await send({"type": "websocket.close"})
                return
            match = _lean_match(scope) if scope["type"] == "http" else None
            if match is not None:
                await _serve(match, scope, receive, send)
            else:
                await self._django(scope, receive, send)


def _lean_match(scope: Scope) -> ResolverMatch | None:
    root = scope.get("root_path", "")
    path = scope["path"]
    if root and path.startswith(root):
        path = path[len(root) :]
    try:
        match = get_resolver().resolve(path)
    except Resolver404:
        return None
    is_ours = bool(match.namespaces) and match.namespaces[0].startswith(NAMESPACE)
    return match if is_ours and inspect.iscoroutinefunction(match.func) else None


async def _serve(match: ResolverMatch, scope: Scope, receive: Receive, send: Send) -> None:
    body = _Body()
    request = ASGIRequest(scope, body)
    request.resolver_match = match
    # Nobody fills our memory without a key; the view tells them what is missing.
    if await _bears_a_key(request) and not await body.fill(scope, receive):
        return
    handling = asyncio.current_task()
    assert handling is not None
    watching = asyncio.create_task(_cancel_on_disconnect(receive, handling))
    try:
        response = await match.func(request, *match.args, **match.kwargs)
        await _send(response, send)
    except asyncio.CancelledError:
        if not watching.done():
            raise
        handling.uncancel()
    finally:
        watching.cancel()


async def _bears_a_key(request: ASGIRequest) -> bool:
    # Models can be imported only after `django.setup`.
    from .api.auth import caller_if_any

    try:
        return await caller_if_any(request) is not None
    except LLMError:
        return False


class _Body(io.BytesIO):
    """A body within its limits of size and time. What passes one is not read on, and `read` says
    so: the view answers in its own format."""

    _problem: LLMError | None = None

    async def fill(self, scope: Scope, receive: Receive) -> bool:
        """Takes the body in; False where the caller left meanwhile."""
        limit = get_settings().max_body_bytes
        too_large = RequestTooLarge(f"The body is larger than {limit} bytes.")
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                self._problem = too_large
                return True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more and self._problem is None:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        return False
                    self.write(event.get("body", b""))
                    more = event.get("more_body", False)
                    if self.tell() > limit:
                        self._problem = too_large
        except TimeoutError:
            self._problem = RequestTimedOut(f"The body took longer than {BODY_SECONDS:.0f} s.")
        self.seek(0)
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """As of every file. Raises `RequestTooLarge`, `RequestTimedOut`."""
        if self._problem is not None:
            raise self._problem
        return super().read(size)


async def _cancel_on_disconnect(receive: Receive, handling: "asyncio.Task[Any]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    handling.cancel()


async def _send(response: HttpResponseBase, send: Send) -> None:
    if isinstance(response, HttpResponse) and "Content-Length" not in response.headers:
        response.headers["Content-Length"] = str(len(response.content))
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": [
                (name.encode("ascii"), value.encode("latin1")) for name, value in response.items()
            ],
        }
    )
    if isinstance(response, StreamingHttpResponse):
        # Our streams have an explicit end, which comes here also when the caller has left.
        async with aclosing(cast("AsyncGenerator[bytes, None]", aiter(response))) as parts:
            async for part in parts:
                if part:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        assert isinstance(response, HttpResponse)
        await send({"type": "http.response.body", "body": response.content})


async def _lifespan(lifecycle: Lifecycle, receive: Receive, send: Send) -> None:
    """Opens the router before the first request and closes all of them after the last."""
    from .factory import close_routers, get_llm_router

    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            lifecycle.start()
            try:
                await get_llm_router()
            except Exception as error:
                lifecycle.stop()
                lifecycle.finish()
                logger.exception("The router cannot start.")
                await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
                return
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            lifecycle.stop()
            await close_routers()
            lifecycle.finish()
            await send({"type": "lifespan.shutdown.complete"})
            return
