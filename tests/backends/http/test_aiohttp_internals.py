"""Internals of aiohttp that we rely on: a missing one is named, and aiohttp's client takes over."""

import logging
from importlib import import_module

import aiohttp
import pytest

from llm_routing.backends.http.aiohttp_internals import versions
from llm_routing.backends.http.transport import AiohttpTransport
from llm_routing.checks import check_deployment

from .conftest import RequestPath
from .servers import LOOPBACK, Upstream, ask_and_read, plain, running


def test_the_installed_aiohttp_has_all_internals() -> None:
    assert versions.problems() == []


@pytest.mark.parametrize(
    ("owner", "attribute"),
    [(owner, name) for owner, names in versions.ATTRIBUTES.items() for name in names],
)
def test_a_missing_attribute_is_named(
    owner: str, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = owner.rpartition(".")
    monkeypatch.setattr(getattr(import_module(module), name), attribute, None)
    assert f"{owner} has no {attribute}" in versions.problems()


@pytest.mark.parametrize(
    "name",
    sorted({*versions.ATTRIBUTES, *versions.SET_BY_INIT, *versions.PARAMETERS, *versions.OTHERS}),
)
def test_a_missing_class_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, attribute = name.rpartition(".")
    monkeypatch.delattr(import_module(module), attribute)
    assert versions.problems() == [f"{name} is missing"]


@pytest.mark.parametrize(
    ("owner", "attribute"),
    [(owner, name) for owner, names in versions.SET_BY_INIT.items() for name in names],
)
def test_an_attribute_that_no_constructor_sets_is_named(
    owner: str, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = owner.rpartition(".")

    class Changed:
        pass

    monkeypatch.setattr(import_module(module), name, Changed)
    assert f"{owner} has no {attribute}" in versions.problems()


@pytest.mark.parametrize(
    ("owner", "method", "parameter"),
    [
        (owner, method, parameter)
        for owner, methods in versions.PARAMETERS.items()
        for method, parameters in methods
        for parameter in parameters
    ],
)
def test_a_missing_parameter_is_named(
    owner: str, method: str, parameter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = owner.rpartition(".")
    monkeypatch.setattr(getattr(import_module(module), name), method, lambda self: None)
    assert f"{owner}.{method} has no {parameter}" in versions.problems()


@pytest.mark.parametrize("version", ["3.11.18", "3.15.0", "4.0.0a1", "nightly"])
async def test_with_an_untested_release_the_client_sends_requests_and_the_log_says_so(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(aiohttp, "__version__", version)
    transport = AiohttpTransport(pool_size=1, allowed_networks=LOOPBACK)
    assert f"aiohttp {version} is not between 3.12 and 3.14" in caplog.text
    assert "llm_routing.W008" in [message.id for message in check_deployment()]
    async with running(Upstream(plain(b"hello"))) as upstream:
        for _ in range(2):
            assert await ask_and_read(transport, upstream.url) == b"hello"
        await transport.aclose()
    assert upstream.connections == 2, "a new connection for each request"


async def test_both_paths_report_once_that_a_request_has_a_connection(
    transport: AiohttpTransport, request_path: RequestPath
) -> None:
    connected: list[RequestPath] = []
    async with running(Upstream(plain(b"hello"))) as upstream:
        for body in (b"{}", b"{}", b"x" * 2_000_000):
            response = await transport.send(
                "p",
                "POST",
                upstream.url,
                {},
                body,
                connect_timeout=30,
                max_connections=None,
                on_connected=lambda: connected.append(request_path),
            )
            await response.read(10)
            await response.aclose()
    assert connected == [request_path] * 3
