"""A deadline ends a request, whatever sets it and whatever hangs."""

import asyncio
from typing import Any

import httpx
import pytest

from llm_routing.access.api_keys import api_keys
from llm_routing.models import ApiKey

from .callers import CALLERS, Caller
from .conftest import Bench
from .upstream import (
    Act,
    bytes_then_silence,
    drip,
    endless,
    head,
    say_nothing,
    until,
)

CHUNKED = head("Transfer-Encoding: chunked")


def slow(act: Any) -> Any:
    return pytest.param(act, marks=pytest.mark.faults)


@pytest.mark.parametrize(
    "act",
    [
        say_nothing,
        slow(bytes_then_silence(b"HTTP/1.1 200")),
        slow(bytes_then_silence(CHUNKED)),
        slow(bytes_then_silence(CHUNKED + b'5\r\n{"id')),
        slow(drip(0.1)),
        slow(endless(CHUNKED, b"1\r\n \r\n", 0.05)),
        slow(bytes_then_silence(head("Content-Length: 9000", status="500 Failed") + b"{")),
    ],
)
async def test_the_deadline_holds_whatever_hangs(bench: Bench, act: Act) -> None:
    await bench.break_with(act, "alpha", "beta")
    # Nothing else ends them: these upstreams hang for ever.
    replies = await asyncio.gather(*(bench.ask(caller, deadline=1) for caller in CALLERS))
    for caller, reply in zip(CALLERS, replies, strict=True):
        assert not reply.is_whole
        assert reply.status in (502, 504), (caller, reply.body)
        assert reply.error in ("deadline_exceeded", "all_targets_failed")


@pytest.mark.parametrize("caller", CALLERS, ids=repr)
@pytest.mark.faults
async def test_the_shortest_deadline_of_route_key_and_request_counts(
    bench: Bench, caller: Caller
) -> None:
    await bench.break_with(say_nothing, "alpha", "beta")
    await bench.route(deadline=0.5)
    reply = await bench.ask(caller)
    assert (reply.status, reply.error) == (504, "deadline_exceeded")
    reply = await bench.ask(caller, headers={"X-Request-Timeout": "300"})
    await bench.route(deadline=300)
    await ApiKey.objects.aupdate(deadline=0.5)
    api_keys.clear()
    reply = await bench.ask(caller)
    assert (reply.status, reply.error) == (504, "deadline_exceeded")


@pytest.mark.faults
async def test_a_deadline_ends_the_wait_between_attempts(bench: Bench) -> None:
    faults = "[[status=429 retry_after=5]]"
    replies = await asyncio.gather(
        *(bench.ask(caller, "debugging:economy", faults=faults, deadline=1) for caller in CALLERS)
    )
    for reply in replies:
        assert reply.status in (429, 502, 503, 504), reply.body
        assert await bench.asked(reply) == ["alpha"]


async def test_a_total_limit_of_an_attempt_leaves_time_for_the_next_target(bench: Bench) -> None:
    await bench.break_with(say_nothing, "alpha")
    await bench.provider("alpha", total_timeout=0.4, first_token_timeout=0.4)
    replies = await asyncio.gather(*(bench.ask(caller, deadline=30) for caller in CALLERS))
    for reply in replies:
        assert reply.is_whole
        assert await bench.asked(reply) == ["alpha", "beta"]


@pytest.mark.parametrize(
    "act",
    [
        say_nothing,
        slow(bytes_then_silence(b"HTTP/1.1 200")),
        slow(drip(0.1)),
        endless(CHUNKED, b"1\r\n \r\n", 0.05),
        slow(endless(b"HTTP/1.1 200 OK\r\n", b"X-More: a\r\n", 0.05)),
    ],
)
async def test_by_default_a_hanging_target_leaves_time_for_the_next(bench: Bench, act: Act) -> None:
    await bench.break_with(act, "alpha")
    replies = await asyncio.gather(*(bench.ask(caller, deadline=8) for caller in CALLERS))
    for reply in replies:
        assert reply.is_whole
        assert await bench.asked(reply) == ["alpha", "beta"]


@pytest.mark.faults
async def test_connecting_ends_at_its_limit_if_the_server_does_not_accept(bench: Bench) -> None:
    # Nobody accepts, and the backlog is full: SYN packets are not answered.
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        await bench.provider("alpha", base_url=f"http://127.0.0.1:{port}/v1", connect_timeout=0.3)
        replies = await asyncio.gather(*(bench.ask(caller, deadline=10) for caller in CALLERS))
        for filler in fillers:
            filler.close()
    for reply in replies:
        assert reply.is_whole
        *failed, _ = await bench.records(reply)
        assert {record.error_code for record in failed} == {"connect_timeout"}
        assert all(record.input_tokens == 0 for record in failed)


@pytest.mark.faults
async def test_a_refused_connection_is_retried_and_then_fails_over(bench: Bench) -> None:
    await bench.provider("alpha", base_url="http://127.0.0.1:1/v1")
    for caller in CALLERS:
        reply = await bench.ask(caller, deadline=10)
        assert reply.is_whole
        *failed, good = await bench.records(reply)
        assert {record.error_code for record in failed} == {"connection_failed"}
        assert good.model == "beta"


@pytest.mark.parametrize("caller", CALLERS, ids=repr)
@pytest.mark.faults
async def test_a_disconnected_caller_ends_the_upstream_call(bench: Bench, caller: Caller) -> None:
    await bench.break_with(say_nothing, "alpha")
    body = caller.body("debugging", "Hi")
    patience = httpx.Timeout(60, read=2)
    with pytest.raises(httpx.ReadTimeout):
        await bench.client.http.post(caller.path, json=body, timeout=patience)
    assert await until(lambda: bool(bench.raw.log and bench.raw.log[0].ended))
    assert bench.raw.log[0].was_left
