"""Internals of uvicorn that we rely on: a missing one is named, and then nothing is changed."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl

from llm_routing.checks import check_deployment
from llm_routing.serving.uvicorn_internals import parser_limits, versions
from llm_routing.serving.uvicorn_internals.writes import write_response

EVERY = ["connection_made", "connection_lost", "data_received", "on_response_complete"]


def test_the_installed_uvicorn_can_be_extended() -> None:
    assert versions.problems() == []


@pytest.mark.parametrize(
    "attribute",
    [
        *(f"uvicorn.protocols.http.h11_impl.H11Protocol.{name}" for name in EVERY),
        *(
            f"uvicorn.protocols.http.httptools_impl.HttpToolsProtocol.{name}"
            for name in [*EVERY, "on_body", "on_message_begin"]
        ),
    ],
)
def test_a_missing_attribute_is_named(attribute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, _, name = attribute.rpartition(".")
    module, _, protocol = owner.rpartition(".")
    # asyncio.Protocol has methods of the same names.
    monkeypatch.setattr(getattr(import_module(module), protocol), name, None)
    assert versions.problems() == [f"{owner} has no {name}"]


def test_a_missing_attribute_of_a_cycle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutFlow:
        def __init__(self, scope: Any) -> None:
            self.scope = scope

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", WithoutFlow)
    monkeypatch.delattr(httptools_impl, "STATUS_LINE")
    problems = versions.problems()
    assert f"{versions.CYCLE} has no flow" in problems
    assert f"{versions.CYCLE} has no scope" not in problems
    assert f"{versions.HTTPTOOLS} has no STATUS_LINE" in problems


class Transport(asyncio.Transport):
    """Records the written data."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Cycle(httptools_impl.RequestResponseCycle):
    """uvicorn's own, of a GET request, with the transport above."""

    def __init__(self, **given: Any) -> None:
        self.ends = 0
        self.recorder = Transport()
        values: dict[str, Any] = {
            "scope": {
                "method": "GET",
                "path": "/v1/models",
                "query_string": b"a=1",
                "client": ("192.0.2.1", 5),
                "http_version": "1.1",
            },
            "transport": self.recorder,
            "flow": FlowControl(self.recorder),
            "logger": None,
            "access_logger": logging.getLogger("uvicorn.access"),
            "access_log": False,
            "default_headers": [(b"date", b"today"), (b"Server", b"uvicorn")],
            "message_event": asyncio.Event(),
            "expect_100_continue": True,
            "keep_alive": True,
            "on_response": self.end,
        }
        super().__init__(**{**values, **given})

    def end(self) -> None:
        self.ends += 1

    @property
    def state(self) -> Mapping[str, Any]:
        """All that tells how far the cycle is, but for how its body is framed."""
        names = (
            *("disconnected", "ends", "keep_alive", "response_complete", "response_started"),
            "waiting_for_100_continue",
        )
        return {name: getattr(self, name) for name in names} | {
            "closed": self.recorder.closed,
            "is_set": self.message_event.is_set(),
        }


# A subclass stands for uvicorn's class, which `write_response` knows by its module.
Cycle.__module__ = versions.HTTPTOOLS


@pytest.fixture
def writes() -> Iterator[None]:
    parser_limits.install()
    yield
    parser_limits.install()


@pytest.mark.usefixtures("writes")
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 100_000])
@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),
        (200, {"Content-Type": "application/json", "x-llm-model": "caf\xe9"}),
        (429, {"Retry-After": "1", "X-Empty": ""}),
    ],
)
async def test_a_response_is_what_uvicorn_sends_in_two_writes(
    status: int, headers: Mapping[str, str], body: bytes
) -> None:
    ours, theirs = Cycle(), Cycle()
    assert write_response(ours.send, status, headers, body)
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    encoded.append((b"Content-Length", b"%d" % len(body)))
    await theirs.send({"type": "http.response.start", "status": status, "headers": encoded})
    await theirs.send({"type": "http.response.body", "body": body})
    assert ours.recorder.written == [b"".join(theirs.recorder.written)]
    assert ours.state == theirs.state
    assert await ours.receive() == {"type": "http.disconnect"}
    with pytest.raises(RuntimeError, match="already completed"):
        await ours.send({"type": "http.response.body", "body": b""})


@pytest.mark.usefixtures("writes")
async def test_the_access_log_is_uvicorns(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = Cycle(access_log=True), Cycle(access_log=True)
    with caplog.at_level(logging.INFO, "uvicorn.access"):
        assert write_response(ours.send, 404, {}, b"{}")
        await theirs.send({"type": "http.response.start", "status": 404})
    first, second = caplog.records
    assert first.getMessage() == '192.0.2.1:5 - "GET /v1/models?a=1 HTTP/1.1" 404'
    assert (first.msg, first.args) == (second.msg, second.args)


@pytest.mark.usefixtures("writes")
@pytest.mark.parametrize(
    "headers",
    [
        {"x-llm-model": "a\r\nx-injected: b"},
        {"x-llm-model": "a\x00b"},
        {"x-llm-model": "a\nb"},
        {"x-llm-model": "日本"},
        {"x-llm\r\nmodel": "a"},
        {"x llm": "a"},
        {"Connection": "close"},
        {"Content-Length": "0"},
        {"transfer-encoding": "chunked"},
        {"x-name": "a\x01b"},
        {"x-name": "a\x1fb"},
        {"x-name": "a\x7fb"},
    ],
)
async def test_uvicorn_judges_headers_that_may_be_invalid_or_frame_the_response(
    headers: Mapping[str, str],
) -> None:
    cycle = Cycle()
    untouched = cycle.state
    assert not write_response(cycle.send, 200, headers, b"{}")
    assert cycle.recorder.written == []
    assert cycle.state == untouched


@pytest.mark.usefixtures("writes")
@pytest.mark.parametrize(
    "given",
    [
        {"scope": {"method": "HEAD"}},
        {"keep_alive": False},
        {"default_headers": [(b"connection", b"close")]},
        {"default_headers": [(b"x-server", b"a\r\nb")]},
    ],
)
async def test_uvicorn_writes_what_is_rare(given: Mapping[str, Any]) -> None:
    cycle = Cycle(**given)
    assert not write_response(cycle.send, 200, {}, b"{}")
    assert cycle.recorder.written == []


@pytest.mark.usefixtures("writes")
async def test_uvicorn_writes_when_the_caller_is_slow_or_gone_or_has_its_answer() -> None:
    slow, gone, answered = Cycle(), Cycle(), Cycle()
    slow.flow.pause_writing()
    gone.disconnected = True
    assert write_response(answered.send, 200, {}, b"{}")
    for cycle in (slow, gone, answered):
        cycle.recorder.written.clear()
        assert not write_response(cycle.send, 200, {}, b"{}")
        assert cycle.recorder.written == []


@pytest.mark.parametrize("version", ["0.29.0", "9.9.9", "nightly"])
def test_an_untested_release_is_not_extended_and_is_logged(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def is_written() -> bool:
        return write_response(Cycle().send, 200, {}, b"{}")

    parser_limits.install()
    assert is_written()
    with monkeypatch.context() as patched:
        patched.setattr(uvicorn, "__version__", version)
        parser_limits.install()
        assert f"uvicorn {version} is not between" in caplog.text
        assert "llm_routing.W006" in [message.id for message in check_deployment()]
        assert not is_written()
    parser_limits.install()
    assert is_written()
