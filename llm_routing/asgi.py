"""The ASGI application: the API without a thread started for a request, the rest by Django.

Django's own handler sends signals, middleware and file closing through threads; an endpoint of
this app needs none of them. To an API request both handlers give the same answers; a project's
middleware runs in Django's alone.
"""

import asyncio
import inspect
import io
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application as get_django_application
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import setting_changed
from django.http import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, URLResolver, get_resolver

from .conf import get_settings
from .core.errors import LLMError, RequestTimedOut
from .core.ids import new_id
from .core.timers import Timer, running_loop
from .core.types import Caller
from .process.admission import admission
from .process.body_budget import BodyShare, body_budget
from .serving.cors import cors_request_headers, cors_rules
from .serving.lifecycle import Lifecycle, was_cancelled_by_shutdown
from .serving.readiness import is_draining
from .serving.request_limits import BODY_TIMEOUT, body_too_large, head_error, pass_on
from .serving.sending import Send, closing_connection, send_endpoint_response, send_response
from .serving.transport_security import security_headers
from .serving.uvicorn_internals import parser_limits
from .serving.uvicorn_internals.writes import abort

if TYPE_CHECKING:
    # Models can be imported only after `django.setup`.
    from .api.direct import Endpoint
    from .serving.exchange import EndpointResponse

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMESPACE = "llm_routing"
SHORT_SECONDS = 0.1
"""So long nobody listens for a caller who leaves."""


def get_asgi_application(
    django_application: Application | None = None, *, exit_zero_on_sigterm: bool = False
) -> "GatewayApplication":
    """Returns the application for a project's `asgi.py`, around Django's own or a replacement.

    `exit_zero_on_sigterm` is for a process that only runs the server: after SIGTERM it exits with
    status 0, where the server alone would let the signal end it.
    """
    return GatewayApplication(
        django_application or _django_application(),
        lifecycle=Lifecycle(exit_zero_on_sigterm=exit_zero_on_sigterm),
    )


def _django_application() -> Application:
    """Django's application; with DEBUG it serves static files too, as `runserver` does, so that the
    admin of a new project is not without its style sheets."""
    application = get_django_application()
    if django_settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

        return ASGIStaticFilesHandler(application)
    return application


async def _send_error(error: LLMError, send: Send) -> None:
    """Answers a request that no endpoint has seen."""
    # Models can be imported only after `django.setup`.
    from .api.errors import NATIVE, error_response

    request_id = new_id()
    reply = error_response(error, NATIVE, request_id, None)
    reply.headers["x-request-id"] = request_id
    await send_endpoint_response(reply, send)


class GatewayApplication:
    """Serves the asynchronous views of the namespace `llm_routing` itself, without middleware, and
    completions without Django's requests and responses; handles lifespan; hands everything else to
    `django_application`."""

    def __init__(
        self, django_application: Application, *, lifecycle: Lifecycle | None = None
    ) -> None:
        django.setup()
        parser_limits.install()
        self._django = django_application
        self._lifecycle = lifecycle or Lifecycle()
        self._endpoints: dict[str, Endpoint] = {}
        setting_changed.connect(self._forget_endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, or the lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(self._lifecycle, receive, send)
        else:
            task = asyncio.current_task(running_loop())
            assert task is not None
            self._lifecycle.begin(task)
            try:
                await self._serving(scope, receive, send, task)
            except asyncio.CancelledError:
                if not was_cancelled_by_shutdown():
                    raise
            finally:
                self._lifecycle.end(task)

    def _serving(
        self, scope: Scope, receive: Receive, send: Send, task: "asyncio.Task[Any]"
    ) -> Coroutine[Any, Any, None]:
        """What serves a connection in `task`."""
        if scope["type"] == "websocket":
            return _refuse_websocket(receive, send)
        refusal = head_error(scope, get_settings())
        if refusal is not None:
            return _send_error(refusal, send)
        path = scope["path"]
        root = scope.get("root_path")
        if root and path.startswith(root):
            path = path[len(root) :]
        endpoint = self._endpoints.get(path)
        if endpoint is not None and scope["method"] == "POST":
            return _serve_endpoint(endpoint, scope, receive, send, task, _headers_of_all(scope))
        match = _resolve(get_resolver(), path)
        if match is None and _sends_our_key(scope["headers"]):
            from .api import unknown_path_error

            return _send_error(unknown_path_error(path), send)
        if match is None or not _is_served_here(match):
            if is_draining():
                send = closing_connection(send)
            return pass_on(self._django, scope, receive, send, send_error=_send_error)
        if scope["method"] == "OPTIONS" and not cors_rules().are_off:
            asked = cors_request_headers(scope["headers"])
            if "access-control-request-method" in asked:
                return _serve_preflight(scope["path"], asked, send)
        from .api.direct import direct_endpoint_of

        endpoint = direct_endpoint_of(match.func)
        # With arguments there is no end of paths.
        if endpoint is not None and not match.args and not match.kwargs:
            self._endpoints[path] = endpoint
        return _serve_view(match, scope, receive, send, task, _headers_of_all(scope))

    def _forget_endpoints(self, *, setting: str, **_: Any) -> None:
        """In a test with another URL configuration."""
        if setting == "ROOT_URLCONF":
            self._endpoints.clear()


def _resolve(resolver: URLResolver, path: str) -> ResolverMatch | None:
    try:
        return resolver.resolve(path)
    except Resolver404:
        return None


def _is_served_here(match: ResolverMatch) -> bool:
    is_ours = bool(match.namespaces) and match.namespaces[0].startswith(NAMESPACE)
    return is_ours and inspect.iscoroutinefunction(match.func)


def _sends_our_key(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request is meant for this app, by the form of its API key."""
    from .models.access import KEY_START

    start = KEY_START.encode()
    return any(
        value.removeprefix(b"Bearer ").startswith(start)
        for name, value in headers
        if name in (b"authorization", b"x-api-key")
    )


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    # Django knows none, and would raise.
    await receive()
    await send({"type": "websocket.close"})


def _headers_of_all(scope: Scope) -> Mapping[str, str]:
    """Returns the security and CORS headers of every response."""
    headers, rules = security_headers(scope), cors_rules()
    if rules.are_off:
        return headers
    origin = cors_request_headers(scope["headers"]).get("origin", "")
    return {**headers, **rules.headers_for(scope["path"], origin)}


async def _serve_preflight(path: str, asked: Mapping[str, str], send: Send) -> None:
    from .serving.exchange import EndpointResponse

    origin = asked.get("origin", "")
    headers = asked.get("access-control-request-headers", "")
    await send_endpoint_response(
        EndpointResponse(b"", cors_rules().preflight(path, origin, headers)), send
    )


async def _serve_endpoint(
    endpoint: "Endpoint",
    scope: Scope,
    receive: Receive,
    send: Send,
    task: "asyncio.Task[Any]",
    headers: Mapping[str, str],
) -> None:
    watch = RequestMonitor(receive, task)
    body = _Body(watch)
    reply: EndpointResponse | None = None
    try:
        reply = await endpoint.respond(scope, body)
        if reply is not None:
            reply.headers.update(headers)
            await send_endpoint_response(reply, send)
    except asyncio.CancelledError:
        if not await watch.takes(send, None if reply is None else reply.content):
            raise
    finally:
        watch.close()
        body.close()


async def _serve_view(
    match: ResolverMatch,
    scope: Scope,
    receive: Receive,
    send: Send,
    task: "asyncio.Task[Any]",
    headers: Mapping[str, str],
) -> None:
    watch = RequestMonitor(receive, task)
    body = _Body(watch)
    response: HttpResponseBase | None = None
    try:
        request = ASGIRequest(scope, body)
        request.resolver_match = match
        # Nobody fills our memory without a key; the view tells them what is missing.
        caller = await _caller_of(request)
        if caller is not None and not await body.fill(request.headers, caller):
            return
        watch.body_has_come()
        response = await match.func(request, *match.args, **match.kwargs)
        for name, value in headers.items():
            response.headers[name] = value
        await send_response(response, send)
    except asyncio.CancelledError:
        if not await watch.takes(send, response):
            raise
    finally:
        watch.close()
        body.close()


async def _caller_of(request: ASGIRequest) -> Caller | None:
    # Models can be imported only after `django.setup`.
    from .api.auth import optional_caller

    try:
        return await optional_caller(request)
    except LLMError:
        return None


class RequestMonitor(Timer):
    """Looks after the request that `handling` serves where it lasts: a body that does not come is
    waited for no more, and a caller who leaves ends it. A short one costs neither timer nor task.
    """

    __slots__ = ("_handling", "_is_late", "_is_long", "_is_reading", "_leaving", "receive")

    def __init__(self, receive: Receive, handling: "asyncio.Task[Any]") -> None:
        self.receive = receive
        self._handling = handling
        self._is_reading = True
        self._is_long = self._is_late = False
        self._leaving: asyncio.Task[None] | None = None
        self.start(SHORT_SECONDS, handling.get_loop())

    def body_has_come(self) -> None:
        """All that can still come from the caller is that it leaves."""
        self._is_reading = False
        if self._is_long:
            self.cancel()
            self._listen()

    def is_late(self) -> bool:
        """Whether the task was cancelled because the body did not come; it goes on, to say so."""
        if self._is_late:
            self._handling.uncancel()
        return self._is_late

    async def takes(self, send: Send, answer: object) -> bool:
        """Whether the task was cancelled because the caller left, or does not read `answer`."""
        if getattr(answer, "has_stalled", False):
            self.close()
            await abort(send)
        elif self._leaving is None or not self._leaving.done():
            return False
        self._handling.uncancel()
        return True

    def close(self) -> None:
        """The request has ended."""
        self.cancel()
        if self._leaving is not None:
            self._leaving.cancel()

    def on_timeout(self) -> None:
        """The request lasts."""
        if not self._is_reading:
            self._is_long = True
            self._listen()
        elif self._is_long:
            self._is_late = True
            self._handling.cancel()
        else:
            self._is_long = True
            self.start(max(0.0, BODY_TIMEOUT - SHORT_SECONDS), self._handling.get_loop())

    def _listen(self) -> None:
        if self._leaving is None:
            leaving = _cancel_on_disconnect(self.receive, self._handling)
            # The timer may fire in the context of another request.
            self._leaving = asyncio.create_task(leaving, context=Context())


class _Body(io.BytesIO):
    """A body within its limits of size and time. What passes one is not read on, and `read` says
    so: the view answers in its own format."""

    def __init__(self, watch: RequestMonitor) -> None:
        super().__init__()
        self._watch = watch
        self._problem: LLMError | None = None
        self._share: BodyShare | None = None

    async def fill(self, headers: Mapping[str, str], caller: Caller) -> bool:
        """Takes the body in; False where the caller left meanwhile. Where there is no room for the
        request there is none for its body."""
        self._problem = admission.refusal()
        if self._problem is not None:
            self._watch.body_has_come()
            return True
        limit = get_settings().max_body_bytes
        self._share = share = body_budget.share(caller.key_name)
        announced = headers.get("content-length", "")
        size = int(announced[:20]) if announced.isdecimal() else 0
        is_too_large = size > limit
        self._problem = share.refusal(size)
        receive, more = self._watch.receive, True
        try:
            while more and not is_too_large and self._problem is None:
                event = await receive()
                if event["type"] == "http.disconnect":
                    return False
                piece = event.get("body", b"")
                self._problem = share.take(len(piece))
                self.write(piece)
                more = event.get("more_body", False)
                is_too_large = self.tell() > limit
        except asyncio.CancelledError:
            if not self._watch.is_late():
                raise
            self._problem = RequestTimedOut(f"The body took longer than {BODY_TIMEOUT:.0f} s.")
        if is_too_large:
            self._problem = body_too_large(limit)
        self._watch.body_has_come()
        self.seek(0)
        return True

    def close(self) -> None:
        """The request has ended, and the body is no longer in memory."""
        super().close()
        if self._share is not None:
            self._share.release()

    def read(self, size: int | None = -1, /) -> bytes:
        """As of every file. Raises `RequestTooLarge`, `RequestTimedOut`, `Overloaded`,
        `Throttled`."""
        if self._problem is not None:
            raise self._problem
        return super().read(size)


async def _cancel_on_disconnect(receive: Receive, handling: "asyncio.Task[Any]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    handling.cancel()


async def _lifespan(lifecycle: Lifecycle, receive: Receive, send: Send) -> None:
    """Opens the router before the first request and closes all of them after the last."""
    from .factory import close_routers, get_llm_router

    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            # Again, for a program that imports the application before its server.
            parser_limits.install()
            lifecycle.start()
            try:
                await get_llm_router()
            except Exception as error:
                lifecycle.stop()
                lifecycle.finish()
                logger.exception("The router cannot start.")
                await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
                return
            lifecycle.tune_process()
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            lifecycle.stop()
            await close_routers()
            lifecycle.finish()
            await send({"type": "lifespan.shutdown.complete"})
            return
