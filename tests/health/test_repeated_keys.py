"""A provider's key that its upstream repeats reaches no caller, log or record."""

import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connections

from llm_routing import BaseLLMRouter, close_routers, get_llm_router
from llm_routing.core.errors import LLMError
from llm_routing.models import UsageRecord

from .conftest import Answer, Upstream, add_provider, add_route, in_thread, swept

# No vendor shapes its keys like this.
KEY = "correct/horse+battery/staple"
FORMS = (KEY, f"Bearer {KEY}", quote(KEY, safe=""), b64encode(f"user:{KEY}".encode()).decode())
CHAT = "/first/chat/completions"


@pytest.fixture
async def router(clean_process: None, upstream: Upstream) -> AsyncIterator[BaseLLMRouter]:
    upstream.needs_key = False

    def configure() -> None:
        add_provider("first", f"{upstream.url}/first", key=KEY)
        add_route("first/alpha")
        # The thread outlives the test, and with it a connection of the pool.
        connections.close_all()

    await in_thread(configure)
    yield await get_llm_router()
    await close_routers()


async def ask(router: BaseLLMRouter, *, stream: bool) -> None:
    if not stream:
        await router.complete("Hi", use_case="debugging")
        return
    async for _ in await router.complete("Hi", use_case="debugging", stream=True):
        pass


def pieces() -> set[str]:
    return {form[3:-3] for form in FORMS} | {KEY[:8], KEY[-8:]}


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", FORMS)
async def test_of_an_error(
    router: BaseLLMRouter,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    form: str,
    stream: bool,
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    error = {"error": {"message": f"Wrong: {form}", "code": form, "type": form, "param": form}}
    upstream.answers[CHAT] = Answer(status, error)
    if stream and status == 200:
        event = f'data: {{"error": {{"message": "Wrong: {form}", "code": "{form}"}}}}\n\n'
        headers = {"Content-Type": "text/event-stream"}
        upstream.answers[CHAT] = Answer(200, event.encode(), headers=headers)
    with pytest.raises(LLMError) as caught:
        await ask(router, stream=stream)
    last: Any = getattr(caught.value, "last", caught.value)
    assert "***" in last.message
    await close_routers()
    records = [str(vars(row)) async for row in UsageRecord.objects.all()]
    assert records
    seen = f"{caught.value} {last} {last.details} {caplog.text} {records}"
    assert not [piece for piece in pieces() if piece in seen]


async def test_of_a_check(router: BaseLLMRouter, upstream: Upstream) -> None:
    upstream.answers["/first/models"] = Answer(401, {"error": {"message": f"Wrong: {KEY}"}})
    report = await in_thread(swept)
    messages = [result.message for result in report.results]
    assert any("***" in message for message in messages)
    assert not [piece for piece in pieces() if piece in str(messages)]


async def test_a_key_that_a_long_message_ends_in(router: BaseLLMRouter, upstream: Upstream) -> None:
    for length in range(250, 300, 7):
        message = "x " * (length // 2) + KEY
        upstream.answers[CHAT] = Answer(200, {"error": {"message": message, "code": 400}})
        with pytest.raises(LLMError) as caught:
            await router.complete("Hi", use_case="debugging")
        assert KEY[:6] not in str(caught.value)
