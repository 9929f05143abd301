"""A stream's end, however it comes, is the end of the upstream call and settles its attempt."""

import asyncio
import gc
from typing import Any, cast

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.core.asgi import get_asgi_application
from django.test import Client

from llm_routing import close_routers
from llm_routing.api.streams.events import EventStream, EventStreamResponse
from llm_routing.models import Provider, UsageRecord
from llm_routing.sandbox import Outcome
from tests.servers import Server

from .callers import until
from .conftest import Gateway, serving

ENDLESS = "[[words=2000 token_delay=0.02]]"
BODIES = {
    "/api/llm/complete": {"messages": ENDLESS, "use_case": "debugging", "stream": True},
    "/v1/chat/completions": {
        "model": "debugging",
        "messages": [{"role": "user", "content": ENDLESS}],
        "stream": True,
    },
    "/v1/messages": {
        "model": "debugging",
        "max_tokens": 5000,
        "messages": [{"role": "user", "content": ENDLESS}],
        "stream": True,
    },
}


@pytest.mark.parametrize("path", BODIES)
async def test_a_disconnect_closes_the_upstream(gateway: Gateway, path: str) -> None:
    async with gateway.client.stream("POST", path, json=BODIES[path]) as response:
        assert response.status_code == 200
        pieces = response.aiter_raw()
        for _ in range(3):
            assert await anext(pieces)
        (entry,) = gateway.sandbox.journal.entries
        assert entry.duration is None
        await pieces.aclose()  # type: ignore[attr-defined]  # it is a generator
    await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
    await close_routers()
    record = await UsageRecord.objects.aget()
    assert record.outcome == "cancelled"
    assert record.is_estimated
    assert record.output_tokens > 0


async def test_a_disconnect_before_the_answer_closes_the_upstream(
    gateway: Gateway,
) -> None:
    body = {"messages": "[[delay=60]]", "use_case": "debugging"}
    for stream in (False, True):
        gateway.sandbox.journal.reset()
        call = gateway.client.post("/api/llm/complete", json={**body, "stream": stream})
        caller = asyncio.create_task(call)
        await until(lambda: len(gateway.sandbox.journal.entries) == 1)
        caller.cancel()
        (entry,) = gateway.sandbox.journal.entries
        await until(lambda entry=entry: entry.outcome is Outcome.CLIENT_DISCONNECTED)  # type: ignore[misc]


async def test_a_caller_that_does_not_read_delays_no_other_caller(gateway: Gateway) -> None:
    stuck = {"messages": "[[words=20000]]", "use_case": "debugging", "stream": True}
    async with gateway.client.stream("POST", "/api/llm/complete", json=stuck):
        assert (await gateway.chat()).status_code == 200
    await until(lambda: gateway.sandbox.journal.entries[0].outcome is not Outcome.IN_PROGRESS)


async def test_chunks_arrive_as_they_come(gateway: Gateway) -> None:
    body = {"messages": "Hi [[stall_after=4]]", "use_case": "debugging", "stream": True}
    async with gateway.client.stream("POST", "/api/llm/complete", json=body) as response:
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if text.count("event: delta") == 4:
                break


async def test_a_compressing_middleware_does_not_change_a_stream(
    configuration: None, api_key: str, settings: Any
) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    async with (
        serving(get_asgi_application(), "off") as url,
        httpx.AsyncClient(base_url=url, headers={"x-api-key": api_key}, timeout=60) as client,
    ):
        body = {"messages": "Hello [[token_delay=0.01]]", "use_case": "debugging", "stream": True}
        response = await client.post("/api/llm/complete", json=body)
    await close_routers()
    assert "event: done" in response.text


class Frames:
    """An open, unread stream."""

    closed = False

    def __aiter__(self) -> "Frames":
        return self

    async def __anext__(self) -> Any:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


class Renderer:
    """Renders an end and nothing else."""

    def end(self) -> bytes:
        return b"end"


def events(frames: Frames) -> EventStream:
    return EventStream(cast(Any, frames), cast(Any, Renderer()), "id")


async def test_an_unread_stream_is_closed_when_it_is_dropped() -> None:
    frames = Frames()
    response = EventStreamResponse(events(frames))
    del response
    gc.collect()
    await until(lambda: frames.closed)


async def test_closing_a_response_s_iterator_closes_the_upstream_at_once() -> None:
    frames = Frames()
    response = EventStreamResponse(events(frames))
    await aiter(response).aclose()  # type: ignore[attr-defined]  # ASGI handlers close it so
    assert frames.closed
    assert [chunk async for chunk in response] == []


async def test_the_last_chunk_comes_after_the_upstream_is_closed() -> None:
    frames = Frames()
    chunks = aiter(EventStreamResponse(events(frames)))
    assert await anext(chunks) == b"end"
    assert frames.closed


@pytest.mark.filterwarnings(
    # The event loop of a WSGI request ends without notice to its connections.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_under_wsgi_a_stream_is_read_before_it_is_answered(
    configuration: None, api_key: str, sandbox: Server
) -> None:
    Provider.objects.exclude(name="claude").update(base_url=f"{sandbox.url}/v1")
    response = Client().post(
        "/v1/chat/completions",
        {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}], "stream": True},
        content_type="application/json",
        headers={"x-api-key": api_key},
    )
    assert not response.streaming
    assert response.content.endswith(b"data: [DONE]\n\n")
    async_to_sync(close_routers)()
    gc.collect()
