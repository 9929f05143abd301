"""The ASGI application: the API without a thread started for a request, the rest by Django.

Django's own handler sends signals, middleware and file closing through threads; an endpoint of
this app needs none of them. Both handlers give the same answers.
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
from .core.errors import RequestTooLarge

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMESPACE = "llm_routing"


def get_asgi_application() -> "LeanApplication":
    """The application for a project's `asgi.py`, around Django's own."""
    return LeanApplication(get_django_application())


class LeanApplication:
    """Serves the asynchronous views of the namespace `llm_routing` itself, without middleware;
    handles lifespan; hands everything else to `django_application`."""

    def __init__(self, django_application: Application) -> None:
        django.setup()
        self._django = django_application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, or the lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] == "http":
            match = _lean_match(scope)
            if match is not None:
                await _serve(match, scope, receive, send)
                return
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
    body = await _read_body(scope, receive, get_settings().max_body_bytes)
    if body is None:
        return
    request = ASGIRequest(scope, body)
    request.resolver_match = match
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


async def _read_body(scope: Scope, receive: Receive, limit: int) -> io.BytesIO | None:
    """The body, None where the caller left; one past the limit is not read, and says so when it
    is: the view answers in its own format."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            return _TooLarge()
    body = io.BytesIO()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body.write(event.get("body", b""))
        if body.tell() > limit:
            return _TooLarge()
        if not event.get("more_body", False):
            body.seek(0)
            return body


class _TooLarge(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise RequestTooLarge(f"The body is larger than {get_settings().max_body_bytes} bytes.")


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


async def _lifespan(receive: Receive, send: Send) -> None:
    """Opens the router before the first request and closes all of them after the last."""
    from .factory import close_routers, get_llm_router
    from .health import readiness

    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            readiness.stop_draining()
            try:
                await get_llm_router()
            except Exception as error:
                logger.exception("The router cannot start.")
                await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
                return
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            readiness.start_draining()
            await close_routers()
            readiness.stop_draining()
            await send({"type": "lifespan.shutdown.complete"})
            return
