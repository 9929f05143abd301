"""The transport under test, over both request paths."""

import ssl
from collections.abc import AsyncIterator
from enum import StrEnum

import aiohttp
import pytest

from llm_routing.backends.http.transport import AiohttpTransport
from tests.tls import self_signed

from .servers import LOOPBACK


class RequestPath(StrEnum):
    """The two ways to send a request: our code on aiohttp's internals, and aiohttp's client."""

    DIRECT = "direct"
    CLIENT = "client"


direct_only = pytest.mark.parametrize("request_path", [RequestPath.DIRECT], indirect=True)
"""For tests of what only our code does."""


@pytest.fixture(params=RequestPath)
def request_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RequestPath:
    """The path that transports of the test take: the client's with unknown releases of aiohttp."""
    path = RequestPath(request.param)
    if path is RequestPath.CLIENT:
        monkeypatch.setattr(aiohttp, "__version__", "99.0.0")
    return path


@pytest.fixture
async def transport(request_path: RequestPath) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(pool_size=10, allowed_networks=LOOPBACK)
    yield transport
    await transport.aclose()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """The server side of TLS, with a self-signed certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed(tmp_path_factory.mktemp("tls")))
    return context
