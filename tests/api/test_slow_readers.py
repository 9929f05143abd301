"""A reader that stalls: bounded memory, then an end. One that is slow is served."""

import asyncio
import logging

import pytest

from llm_routing import close_routers
from llm_routing.backends.http.transport import AiohttpUpstreamResponse
from llm_routing.models import UsageRecord
from llm_routing.sandbox import Outcome

from .callers import calling, configure, until
from .conftest import Gateway

PATHS = ("/api/llm/complete", "/v1/chat/completions", "/v1/messages")
LONG = "[[words=60000]]"
MOST_BYTES = 2 * 1024 * 1024
"""Of some 10 MB: one chunk read ahead, one being sent, and the buffers of uvicorn and the
kernel."""


@pytest.mark.parametrize("path", PATHS)
async def test_a_caller_that_does_not_read_is_cut_with_its_upstream(
    gateway: Gateway,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    fetched: list[int] = []
    next_chunk = AiohttpUpstreamResponse.next_chunk

    async def counted(self: AiohttpUpstreamResponse, within: float | None = None) -> bytes:
        chunk = await next_chunk(self, within)
        fetched.append(len(chunk))
        return chunk

    monkeypatch.setattr(AiohttpUpstreamResponse, "next_chunk", counted)
    await configure(monkeypatch, write_timeout=0.5)
    async with calling(gateway, LONG, path) as caller:
        await caller.read_until(b"data:")
        (entry,) = gateway.sandbox.journal.entries
        await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
        # Unread data is not fetched; the rest stays with the provider.
        assert sum(fetched) < MOST_BYTES
        await close_routers()
        record = await UsageRecord.objects.aget()
        assert record.outcome == "cancelled"
        while await caller.read():
            pass
        assert not caller.received.endswith(b"\r\n0\r\n\r\n"), "it is no whole answer"


async def test_a_slow_reader_gets_the_whole_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, write_timeout=20)
    loop = asyncio.get_running_loop()
    real_time, passed = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed)
    async with calling(gateway, "[[words=24000]]") as caller:
        while b"event: done" not in caller.received:
            assert await caller.read(8192)
            # On the clock of the gateway the whole takes several times the limit.
            passed = min(passed + 0.25, 100)
            await asyncio.sleep(0)
    assert passed > 40
    (entry,) = gateway.sandbox.journal.entries
    await until(lambda: entry.outcome is Outcome.FINISHED)


async def test_a_stream_that_waits_for_its_provider_is_not_taken_for_a_stalled_reader(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, write_timeout=0.2)
    response = await gateway.complete("one two three [[token_delay=0.3]]", stream=True)
    assert "event: done" in response.text


@pytest.mark.parametrize(
    ("path", "beat"),
    [
        ("/api/llm/complete", ": keep-alive\n\n"),
        ("/v1/chat/completions", ": keep-alive\n\n"),
        ("/v1/messages", 'event: ping\ndata: {"type":"ping"}\n\n'),
    ],
)
async def test_a_silent_stream_sends_keep_alives(
    gateway: Gateway, path: str, beat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, keep_alive_interval=0.1)
    async with calling(gateway, "[[stall_after=3]]", path) as caller:
        while caller.received.count(beat.encode()) < 3:
            assert await caller.read()


async def test_signs_of_life_change_nothing_in_the_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, keep_alive_interval=0.05)
    slow = await gateway.chat("one two three [[token_delay=0.2]]", stream=True)
    await configure(monkeypatch, keep_alive_interval=0)
    quick = await gateway.chat("one two three [[token_delay=0.2]]", stream=True)
    beat = ": keep-alive\n\n"
    assert beat in slow.text
    assert beat not in quick.text
    without = slow.text.replace(beat, "")
    assert without.count("data: ") == quick.text.count("data: ")
    assert without.endswith("data: [DONE]\n\n")


async def test_silence_past_the_limit_is_still_an_error(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, keep_alive_interval=0.1, idle_timeout=2)
    response = await gateway.complete("[[stall_after=3]]", stream=True)
    assert ": keep-alive" in response.text
    assert '"code":"idle_timeout"' in response.text.replace(" ", "")
