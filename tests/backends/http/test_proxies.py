"""Providers behind an HTTP proxy, over real sockets: requests to it, and forbidden addresses."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from llm_routing.backends.http.proxies import Proxies
from llm_routing.backends.http.transport import AiohttpTransport
from llm_routing.conf import load
from llm_routing.core.errors import AddressForbidden, CertificateRejected, ConnectionFailed
from tests.listening import listening

from .servers import LOOPBACK, Upstream, ask, plain, running

PASSWORD = "p4ssw0rd"


class Proxy:
    """A small HTTP proxy, which resolves all names to `target`."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.target = 0
        self.lines: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, *rest = head.decode().strip().split("\r\n")
            self.lines.append(line)
            self.headers.append(dict(header.split(": ", 1) for header in rest))
            if self.refuses:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            else:
                await self._pass_on(line, head, reader, writer)

    async def _pass_on(
        self,
        line: str,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        if line.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            back.write(head)
        try:
            await asyncio.gather(copy(reader, back), copy(there, writer))
        finally:
            back.close()
            with contextlib.suppress(OSError):
                await back.wait_closed()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def running_proxy(proxy: Proxy, target: Upstream | None = None) -> AsyncIterator[Proxy]:
    proxy.target = int(target.url.rsplit(":", 1)[1]) if target else 0
    async with listening(proxy.serve) as port:
        proxy.address = f"127.0.0.1:{port}"
        yield proxy


@asynccontextmanager
async def behind(proxy: Proxy) -> AsyncIterator[AiohttpTransport]:
    """A transport that may reach public addresses and the proxy only."""
    url = f"http://operator:{PASSWORD}@{proxy.address}"
    proxies = Proxies(http=url, https=url)
    transport = AiohttpTransport(pool_size=10, allowed_networks=(), proxies=proxies)
    try:
        yield transport
    finally:
        await transport.aclose()


async def test_requests_to_an_http_provider_go_through_the_proxy_which_resolves_its_name() -> None:
    async with (
        running(Upstream(plain(b"hello"))) as upstream,
        running_proxy(Proxy(), upstream) as proxy,
        behind(proxy) as transport,
    ):
        for _ in range(2):
            answer = await ask(transport, "http://models.internal.example/v1/chat")
            assert await answer.read(100) == b"hello"
            await answer.aclose()
        assert proxy.lines == ["POST http://models.internal.example/v1/chat HTTP/1.1"]
        assert upstream.connections == 1, "the connection is kept open"
        given = base64.b64encode(f"operator:{PASSWORD}".encode()).decode()
        assert proxy.headers[0]["Proxy-Authorization"] == f"Basic {given}"


async def test_an_https_provider_is_reached_through_a_tunnel(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    async with (
        running(Upstream(plain(b"hello")), certificate) as upstream,
        running_proxy(Proxy(), upstream) as proxy,
        behind(proxy) as transport,
    ):
        for _ in range(2):
            answer = await ask(transport, "https://models.internal.example/v1/chat")
            assert await answer.read(100) == b"hello"
            await answer.aclose()
        assert proxy.lines == ["CONNECT models.internal.example:443 HTTP/1.1"]
        assert "Proxy-Authorization" in proxy.headers[0]
        assert b"Proxy-Authorization" not in upstream.requests[0]
        assert b"Bearer k" in upstream.requests[0]


async def test_a_certificate_is_checked_at_the_end_of_the_tunnel(
    certificate: ssl.SSLContext,
) -> None:
    async with (
        running(Upstream(plain(b"x")), certificate) as upstream,
        running_proxy(Proxy(), upstream) as proxy,
        behind(proxy) as transport,
    ):
        with pytest.raises(CertificateRejected):
            await ask(transport, "https://models.internal.example/")
    assert upstream.requests == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "2130706433"]
)
async def test_a_private_address_is_refused_behind_a_proxy_too(host: str) -> None:
    async with running_proxy(Proxy()) as proxy, behind(proxy) as transport:
        with pytest.raises(AddressForbidden):
            await ask(transport, f"http://{host}/")
    assert proxy.lines == []


async def test_hosts_in_no_proxy_are_connected_to_directly_and_checked() -> None:
    async with (
        running(Upstream(plain(b"hello"))) as upstream,
        running_proxy(Proxy()) as proxy,
    ):
        proxies = Proxies(http=f"http://{proxy.address}", bypass="localhost,127.0.0.1")
        for networks in (LOOPBACK, ()):
            transport = AiohttpTransport(pool_size=1, allowed_networks=networks, proxies=proxies)
            if networks:
                answer = await ask(transport, upstream.url)
                assert await answer.read(100) == b"hello"
                await answer.aclose()
            else:
                with pytest.raises(AddressForbidden):
                    await ask(transport, upstream.url)
            await transport.aclose()
    assert proxy.lines == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_unreachable_proxy_is_a_failed_connection_without_its_password(
    scheme: str,
) -> None:
    async with running_proxy(Proxy()) as proxy:
        pass
    async with behind(proxy) as transport:
        with pytest.raises(ConnectionFailed, match="proxy") as caught:
            await ask(transport, f"{scheme}://models.internal.example/")
    assert PASSWORD not in str(caught.value)


async def test_a_proxy_that_refuses_a_tunnel_is_a_failed_connection() -> None:
    async with running_proxy(Proxy(refuses=True)) as proxy, behind(proxy) as transport:
        with pytest.raises(ConnectionFailed, match="status 403") as caught:
            await ask(transport, "https://models.internal.example/")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://a:1"}, "http://a:1"),
        ({"http_proxy": "http://b:1", "HTTP_PROXY": "http://a:1"}, "http://b:1"),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None),
    ],
    ids=["none", "upper case", "lower case first", "a header of a CGI request"],
)
def test_proxies_come_from_the_environment(environ: Mapping[str, str], proxy: str | None) -> None:
    found = load({}, environ).http_proxy
    assert (found.get_secret_value() if found else None) == proxy
