"""The ASGI application: serves the API without a thread per request, and all other paths by Django.

Django's own handler runs signals, middleware and the closing of files in threads; endpoints of this
app need none of them. Both handlers give the same responses to API requests, but only Django's runs
a project's middleware.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, cast

import django
from django.apps import apps
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application as get_django_application
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import setting_changed
from django.http import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, URLResolver, get_resolver

from .conf import get_settings
from .core.errors import LLMError
from .core.ids import new_id
from .core.timers import running_loop
from .core.types import Caller
from .process.request_body import RequestBody
from .serving.cors import CorsRules, cors_request_headers, cors_rules
from .serving.lifecycle import Lifecycle
from .serving.readiness import is_draining
from .serving.request_limits import head_error, serve_with_limits
from .serving.request_monitor import Receive, RequestMonitor
from .serving.sending import Send, closing_connection, send_endpoint_response, send_response
from .serving.shutdown import was_cancelled_by_shutdown
from .serving.transport_security import security_headers
from .serving.uvicorn_internals import parser_limits

if TYPE_CHECKING:
    # Models can be imported only after `django.setup`.
    from .api.direct import Endpoint
    from .serving.exchange import EndpointResponse

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMESPACE = "llm_routing"


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
    """Returns Django's application. With DEBUG it also serves static files, as `runserver` does, so
    that the admin of a new project has its style sheets."""
    application = get_django_application()
    if django_settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

        return ASGIStaticFilesHandler(application)
    return application


async def _send_error(error: LLMError, send: Send) -> None:
    """Sends an error in response to a request that reached no endpoint."""
    # Models can be imported only after `django.setup`.
    from .api.errors import NATIVE, error_response

    request_id = new_id()
    response = error_response(error, NATIVE, request_id, None)
    response.headers["x-request-id"] = request_id
    await send_endpoint_response(response, send)


class GatewayApplication:
    """Serves the asynchronous views of the namespace `llm_routing` itself, without middleware, and
    completions without Django's requests and responses; handles lifespan; passes everything else to
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
        """Returns the coroutine that serves a connection in `task`."""
        if scope["type"] == "websocket":
            return _refuse_websocket(receive, send)
        error = head_error(scope, get_settings())
        if error is not None:
            return _send_error(error, send)
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
            return serve_with_limits(self._django, scope, receive, send, send_error=_send_error)
        if scope["method"] == "OPTIONS" and (rules := cors_rules()) is not None:
            asked = cors_request_headers(scope["headers"])
            if "access-control-request-method" in asked:
                return _serve_preflight(rules, scope["path"], asked, send)
        from .api.direct import direct_endpoint_of

        endpoint = direct_endpoint_of(match.func)
        # Paths with arguments are unbounded, so they are not remembered.
        if endpoint is not None and not match.args and not match.kwargs:
            self._endpoints[path] = endpoint
        return _serve_view(match, scope, receive, send, task, _headers_of_all(scope))

    def _forget_endpoints(self, *, setting: str, **_: Any) -> None:
        """For tests with another URL configuration."""
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
    """Returns whether a request is meant for this app, by the form of its API key."""
    from .models.access import KEY_START

    start = KEY_START.encode()
    return any(
        value.removeprefix(b"Bearer ").startswith(start)
        for name, value in headers
        if name in (b"authorization", b"x-api-key")
    )


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    # Django does not support them and would raise an exception.
    await receive()
    await send({"type": "websocket.close"})


def _headers_of_all(scope: Scope) -> Mapping[str, str]:
    """Returns the security and CORS headers of every response."""
    headers, rules = security_headers(scope), cors_rules()
    if rules is None:
        return headers
    origin = cors_request_headers(scope["headers"]).get("origin", "")
    return {**headers, **rules.headers_for(scope["path"], origin)}


async def _serve_preflight(
    rules: CorsRules, path: str, asked: Mapping[str, str], send: Send
) -> None:
    from .serving.exchange import EndpointResponse

    origin = asked.get("origin", "")
    headers = asked.get("access-control-request-headers", "")
    await send_endpoint_response(
        EndpointResponse(b"", rules.preflight(path, origin, headers)), send
    )


async def _serve_endpoint(
    endpoint: "Endpoint",
    scope: Scope,
    receive: Receive,
    send: Send,
    task: "asyncio.Task[Any]",
    headers: Mapping[str, str],
) -> None:
    monitor = RequestMonitor(receive, task)
    body = RequestBody(monitor)
    response: EndpointResponse | None = None
    try:
        response = await endpoint.respond(scope, body)
        if response is not None:
            response.headers.update(headers)
            await send_endpoint_response(response, send)
    except asyncio.CancelledError:
        if not await monitor.caller_is_gone(send, None if response is None else response.content):
            raise
    finally:
        monitor.close()
        body.close()


async def _serve_view(
    match: ResolverMatch,
    scope: Scope,
    receive: Receive,
    send: Send,
    task: "asyncio.Task[Any]",
    headers: Mapping[str, str],
) -> None:
    monitor = RequestMonitor(receive, task)
    body = RequestBody(monitor)
    response: HttpResponseBase | None = None
    try:
        # Django only reads and closes it.
        request = ASGIRequest(scope, cast("IO[bytes]", body))
        request.resolver_match = match
        # Without a valid key no body is received; the view sends the error.
        caller = await _caller_of(request)
        if caller is not None and not await body.fill(request.headers, caller):
            return
        monitor.body_has_come()
        response = await match.func(request, *match.args, **match.kwargs)
        for name, value in headers.items():
            response.headers[name] = value
        await send_response(response, send)
    except asyncio.CancelledError:
        if not await monitor.caller_is_gone(send, response):
            raise
    finally:
        monitor.close()
        body.close()


async def _caller_of(request: ASGIRequest) -> Caller | None:
    # Models can be imported only after `django.setup`.
    from .api.auth import optional_caller

    try:
        return await optional_caller(request)
    except LLMError:
        return None


async def _lifespan(lifecycle: Lifecycle, receive: Receive, send: Send) -> None:
    """Opens the router before the first request and closes all routers after the last one."""
    from .factory import close_routers, get_llm_router

    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            # Repeated, because a program may import the application before its server.
            parser_limits.install()
            lifecycle.start()
            try:
                await get_llm_router()
                # Imports the endpoints, which else the first request would wait for.
                _ = get_resolver().url_patterns
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
