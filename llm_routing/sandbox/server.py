"""The sandbox as a server: keys, faults before an answer, the log, start and stop.

The modules of the formats write the answers, `wire` sends them.
"""

import asyncio
import errno
import hashlib
import hmac
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

from aiohttp import web

from . import fields
from .control import PREFIX, control
from .endpoints import (
    ANTHROPIC,
    POST_ENDPOINTS,
    Face,
    ParsedRequest,
    Write,
    check_model,
    face_of,
    find,
    model_of,
)
from .faults import Faults, FaultSyntaxError, extract, merge, parse
from .fields import BadRequest
from .journal import Entry, Journal, Outcome
from .reply import Streamed, Whole
from .threads import Threads
from .wire import Dropped, ShuttingDown, Wire

MAX_BODY_BYTES = 32 * 1024 * 1024
FAULT_HEADER = "x-sandbox-fault"
_SHUTDOWN_SECONDS = 2.0
_REDIRECT = 307
_MAX_MODEL = 200
_MAX_FAULTS = 1_000
_HTML = b"<!doctype html>\n<title>Error</title>\n<h1>An error requested by a fault</h1>\n"


class PortTaken(OSError):
    """The port is in use or may not be opened."""


class Sandbox:
    """The sandbox; it listens while the context is open.

    >>> async with Sandbox() as sandbox:
    ...     client = AsyncOpenAI(base_url=sandbox.openai_url, api_key="any")
    ...     sandbox.journal.script("status=503 retry_after=0")

    Port 0 chooses a free port. If `require_key` is set, requests must send it as `Authorization:
    Bearer …` or `x-api-key`. `start` raises `PortTaken`, or `OSError` for an invalid address.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        require_key: str = "",
        refuse_unknown_models: bool = False,
    ) -> None:
        self.journal = Journal()
        self.threads = Threads()
        self._host = host
        self._port = port
        self._require_key = require_key
        self._refuse_unknown = refuse_unknown_models
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL for Anthropic clients; OpenAI clients use `openai_url`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI clients."""
        return f"{self.url}/v1"

    async def start(self) -> None:
        """Starts to listen."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_shutdown.append(self._stop_waiting)
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(error.errno, f"port {self._port} is taken") from error
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stops listening. Delayed answers are cut off, others get two seconds to finish."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _stop_waiting(self, app: web.Application) -> None:
        self._stopping.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith(PREFIX):
            return control(self.journal, request.method, request.path, await request.read())
        entry = self.journal.open(request.method, request.path, request.headers.items())
        outcome = Outcome.FINISHED
        try:
            return await self._exchange(request, entry)
        except Dropped:
            outcome = Outcome.DROPPED_BY_FAULT
        except ShuttingDown:
            outcome = Outcome.SHUT_DOWN
        except ConnectionError:
            outcome = Outcome.CLIENT_DISCONNECTED
        except asyncio.CancelledError:
            stopping = self._stopping.is_set()
            outcome = Outcome.SHUT_DOWN if stopping else Outcome.CLIENT_DISCONNECTED
            raise
        finally:
            self.journal.settle(entry, outcome)
        if request.transport is not None:
            request.transport.close()
        # The connection is closed, so this response is never sent.
        return web.Response()

    async def _exchange(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        face = face_of(request.path, request.headers)
        parsed = ParsedRequest({}, "", _digest(request.path, {}))
        faults = Faults()
        try:
            self._check_headers(request, face)
            parsed = self._parse(request, entry, await _body(request))
            faults, write = self._read(request, face, parsed, entry)
            wire = Wire(request, faults, entry, self._stopping)
            await wire.pause(faults.delay)
            if faults.disconnect or (faults.reset and not faults.breaks_off):
                raise wire.drop()
            reply = _reply(face, parsed, faults, write)
        except BadRequest as error:
            body = face.error(
                error.status, parsed.request_id, error.message, error.code, error.param
            )
            reply = Whole(body, error.status)
        headers = {face.request_id_header: parsed.request_id, **reply.headers}
        wire = Wire(request, faults, entry, self._stopping)
        return await wire.send(replace(reply, headers=headers))

    def _check_headers(self, request: web.Request, face: Face) -> None:
        if face is ANTHROPIC and "anthropic-version" not in request.headers:
            raise BadRequest("anthropic-version: header is required")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = (bearer, request.headers.get("x-api-key", ""))
        wanted = self._require_key.encode()
        # Header bytes that are not UTF-8 arrive as surrogates.
        keys = [key.encode("utf-8", "surrogateescape") for key in given]
        if wanted and not any(hmac.compare_digest(key, wanted) for key in keys):
            raise BadRequest("", status=401)

    def _parse(self, request: web.Request, entry: Entry, data: bytes) -> ParsedRequest:
        """Parses the parts of a request that every endpoint has."""
        entry.record_body(data, None)
        body: Mapping[str, Any] = {}
        named = model_of(request.path)
        if request.method == "POST" and request.path in POST_ENDPOINTS:
            body = fields.decode(data)
            entry.record_body(data, body)
            named = fields.text(body, "model")
        model, directives = extract(named)
        entry.model = model[:_MAX_MODEL]
        digest = _digest(request.path, body)
        return ParsedRequest(body, model, digest, tuple(directives), self.threads)

    def _read(
        self, request: web.Request, face: Face, parsed: ParsedRequest, entry: Entry
    ) -> tuple[Faults, Write]:
        """Returns the faults of the answer and its writer."""
        step = self.journal.take(request.method, request.path, parsed.model)
        endpoint = find(request.method, request.path, face)
        if endpoint is None:
            known = request.path in POST_ENDPOINTS
            raise BadRequest(
                f"Unknown request URL: {request.method} {request.path}.",
                status=405 if known else 404,
            )
        check_model(endpoint, parsed, self._refuse_unknown)
        found, write = endpoint.read(parsed)
        header = request.headers.get(FAULT_HEADER, "")
        directives = [step.faults if step else "", header, *parsed.directives, *found]
        entry.faults = " ".join(each for each in directives if each)[:_MAX_FAULTS]
        try:
            return merge(*(parse(each, parsed.model) for each in directives)), write
        except FaultSyntaxError as error:
            raise BadRequest(f"Invalid fault directive: {error}.") from error


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise BadRequest("", status=413) from error


def _digest(path: str, body: Mapping[str, Any]) -> str:
    """Returns a digest that identifies a request, independent of the formatting of its JSON."""
    text = json.dumps([path, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reply(face: Face, parsed: ParsedRequest, faults: Faults, write: Write) -> Whole | Streamed:
    """Returns the answer, or the error that a fault requests instead."""
    status = faults.status
    code, message = faults.code or None, faults.message
    if faults.redirect:
        moved = status if status is not None and 300 <= status < 400 else _REDIRECT
        return Whole(b"", moved, headers={"Location": faults.redirect})
    if faults.html:
        return Whole(_HTML, status or 200, "text/html; charset=utf-8")
    if status is not None and status >= 400:
        return Whole(face.error(status, parsed.request_id, message, code, None), status)
    reply = write(faults)
    if faults.error_in_200 is not None and isinstance(reply, Whole):
        reply = Whole(face.error_in_200(parsed.request_id, message, code))
    return reply if status is None else replace(reply, status=status)


async def serve(sandbox: Sandbox, ready: Callable[[Sandbox], None]) -> None:
    """Runs a sandbox until SIGINT or SIGTERM; calls `ready` once it listens. Raises the same errors
    as `Sandbox.start`."""
    loop = asyncio.get_running_loop()
    stop_requested = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_requested.set)
    try:
        async with sandbox:
            ready(sandbox)
            await stop_requested.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
