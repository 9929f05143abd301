"""Idle connections that the server closes: which requests are sent again, and which are not.

aiohttp's client gets a new connection for each request.
"""

import socket
import threading

import pytest

from llm_routing.backends.http.transport import AiohttpTransport
from llm_routing.core.errors import ConnectionLost

from .conftest import direct_only
from .servers import Fickle, ask, ask_and_read, plain, running

pytestmark = direct_only


class Crossing:
    """Sends one response on each connection, and closes it while the next request is on its way:
    the client writes before it learns of that. Runs in a thread, beside the client's event loop."""

    def __init__(self) -> None:
        self.closes = threading.Event()
        self.has_closed = threading.Event()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1/x"

    def __enter__(self) -> "Crossing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closes.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        for _ in range(2):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            self.connections += 1
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(4096)
            connection.sendall(plain(b"x"))
            self.closes.wait()
            connection.close()
            self.has_closed.set()


async def test_a_request_is_sent_again_if_its_idle_connection_was_closed_unread(
    transport: AiohttpTransport,
) -> None:
    with Crossing() as upstream:
        assert await ask_and_read(transport, upstream.url) == b"x"
        upstream.closes.set()
        # The event loop is blocked, so that it does not learn of the end.
        assert upstream.has_closed.wait(90)
        assert await ask_and_read(transport, upstream.url) == b"x"
        assert upstream.connections == 2


@pytest.mark.parametrize("ending", ["closed", "reset"])
async def test_a_post_that_the_server_has_received_is_not_sent_again(
    transport: AiohttpTransport, ending: str
) -> None:
    async with running(Fickle(plain(b"x"), ending=ending)) as upstream:
        assert await ask_and_read(transport, upstream.url) == b"x"
        with pytest.raises(ConnectionLost):
            await ask(transport, upstream.url)
        assert (upstream.connections, upstream.dropped) == (1, 1)


@pytest.mark.parametrize("ending", ["closed", "reset"])
async def test_a_get_is_sent_again_once(transport: AiohttpTransport, ending: str) -> None:
    async with running(Fickle(plain(b"x"), ending=ending)) as upstream:
        for _ in range(2):
            answer = await ask(transport, upstream.url, method="GET")
            assert await answer.read(10) == b"x"
            await answer.aclose()
        assert (upstream.connections, upstream.dropped) == (2, 1)
        upstream.drops_new = True
        with pytest.raises(ConnectionLost):
            await ask(transport, upstream.url, method="GET")
        assert (upstream.connections, upstream.dropped) == (3, 3)


async def test_a_request_whose_new_connection_is_closed_fails(transport: AiohttpTransport) -> None:
    async with running(Fickle(plain(b"x"))) as upstream:
        upstream.drops_new = True
        with pytest.raises(ConnectionLost):
            await ask(transport, upstream.url)
        assert upstream.connections == 1


@pytest.mark.parametrize("ending", ["closed", "reset"])
async def test_a_request_is_not_sent_again_after_a_byte_of_the_response(
    transport: AiohttpTransport, ending: str
) -> None:
    async with running(Fickle(plain(b"x"), ending=ending, last_words=b"HTTP/1.1 2")) as upstream:
        assert await ask_and_read(transport, upstream.url) == b"x"
        with pytest.raises(ConnectionLost):
            await ask(transport, upstream.url)
        assert upstream.connections == 1


async def test_a_request_is_not_sent_again_if_the_server_hangs_up_late(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_routing.backends.http.transport.STALE_SECONDS", 0.0)
    async with running(Fickle(plain(b"x"))) as upstream:
        assert await ask_and_read(transport, upstream.url) == b"x"
        with pytest.raises(ConnectionLost):
            await ask(transport, upstream.url)
        assert upstream.connections == 1
