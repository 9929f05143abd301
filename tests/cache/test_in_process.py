"""Cached answers of in-process calls: the calls upstream, the answers and their cost."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest
from django.db.backends.utils import CursorWrapper

from llm_routing import BaseLLMRouter, RouterConfig, close_routers, get_llm_router
from llm_routing.conf import get_settings
from llm_routing.core.errors import LLMError
from llm_routing.core.events import AnswerEnded, Frame, StreamEvent
from llm_routing.core.types import CacheState, Caller, LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.base import CallerFormat
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.models import ModelConfig, Provider, UsageRecord, UseCaseRoute
from tests.router.conftest import Configuration

from .conftest import Upstream

HIT, MISS, BYPASS = CacheState.HIT, CacheState.MISS, CacheState.BYPASS
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}

pytestmark = pytest.mark.usefixtures("without_redis", "deterministic")


@pytest.fixture(autouse=True)
def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


async def ask(router: BaseLLMRouter, messages: Any = "Hello", **more: Any) -> CacheState:
    answer = await router.complete(messages, use_case="debugging", **more)
    return answer.routing.cache


async def test_a_hit_is_the_same_answer_at_no_cost(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    first = await router.complete("Hello", use_case="debugging")
    second = await router.complete("Hello", use_case="debugging")
    assert (first.routing.cache, second.routing.cache) == (MISS, HIT)
    assert second.completion == first.completion
    assert (second.provider, second.model) == ("first", "alpha")
    assert second.usage == first.usage
    assert second.usage.input_tokens > 0
    assert first.cost
    assert (second.cost, second.routing.attempts) == (Decimal(0), ())
    assert second.routing.request_id != first.routing.request_id
    assert second.dict()["cache"] == "hit"
    assert second.dict()["cost_usd"] == "0"
    assert await upstream.calls() == 1
    metrics = router.get_metrics()
    assert metrics["requests_total"] == 2
    assert metrics["attempts_total"] == 1
    assert metrics["cache_hits_total"] == 1
    assert metrics["cache_misses_total"] == 1
    assert metrics["cache_entries"] == 1
    assert metrics["cache_bytes"] > len(first.completion.raw)
    assert metrics["cache_evictions_total"] == 0
    await close_routers()
    assert await UsageRecord.objects.acount() == 1


async def test_only_deterministic_requests_are_cached_by_default(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    assert [await ask(router, temperature_override=0.5) for _ in range(2)] == [BYPASS, BYPASS]
    assert [await ask(router, temperature_override=0.5, seed=7) for _ in range(2)] == [MISS, HIT]
    assert [await ask(router, temperature_override=0.5, cache=True) for _ in range(2)] == [
        MISS,
        HIT,
    ]
    assert [await ask(router, cache=False) for _ in range(2)] == [BYPASS, BYPASS]
    assert await upstream.calls() == 6


async def test_tenants_share_no_answers(router: BaseLLMRouter, upstream: Upstream) -> None:
    assert await ask(router, tenant="acme") is MISS
    assert await ask(router, tenant="other") is MISS
    assert await ask(router, tenant="acme") is HIT
    assert await upstream.calls() == 2


async def test_labels_timeouts_and_the_name_of_a_route_do_not_change_the_key(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    assert await ask(router, metadata={"job": "1"}, timeout=20) is MISS
    assert await ask(router, metadata={"job": "2"}, timeout=30) is HIT
    answer = await router.complete("Hello", model_override="debugging:standard")
    assert answer.routing.cache is HIT
    assert await upstream.calls() == 1


@pytest.mark.parametrize("change", ["prompt", "model", "address", "targets", "max_tokens"])
async def test_a_changed_configuration_serves_no_old_answers(
    router: BaseLLMRouter, configuration: Configuration, change: str
) -> None:
    assert await ask(router) is MISS
    route = configuration.route
    match change:
        case "prompt":
            await UseCaseRoute.objects.filter(pk=route.pk).aupdate(system_prompt="Be brief.")
        case "max_tokens":
            await UseCaseRoute.objects.filter(pk=route.pk).aupdate(max_tokens=5)
        case "model":
            await ModelConfig.objects.filter(model_id="alpha").aupdate(model_id="alpha-2")
        case "address":
            url = configuration.first.base_url.replace("127.0.0.1", "localhost")
            await Provider.objects.filter(name="first").aupdate(base_url=url)
        case "targets":
            await route.targets.filter(position=1).adelete()
    assert await ask(router) is MISS


async def test_a_route_can_set_the_lifetime_and_zero_disables_the_cache(
    router: BaseLLMRouter, deterministic: UseCaseRoute, upstream: Upstream
) -> None:
    assert await ask(router) is MISS
    deterministic.cache_ttl = 0
    await deterministic.asave()
    assert await ask(router) is BYPASS
    assert await ask(router, cache=True, cache_ttl=60) is BYPASS
    deterministic.cache_ttl = 60
    await deterministic.asave()
    assert await ask(router) is HIT
    assert await ask(router, cache_ttl=0) is BYPASS
    assert await upstream.calls() == 4


async def test_tool_calls_are_cached_only_if_the_caller_asks_for_it(router: BaseLLMRouter) -> None:
    call: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required"}
    assert [await ask(router, **call) for _ in range(2)] == [MISS, MISS]
    assert [await ask(router, cache=True, **call) for _ in range(2)] == [MISS, HIT]
    answer = await router.complete("Hello", use_case="debugging", cache=True, **call)
    assert answer.tool_calls[0].name == "get_weather"
    words: dict[str, Any] = {"tools": [TOOL], "tool_choice": "none"}
    assert [await ask(router, **words) for _ in range(2)] == [MISS, HIT]


@pytest.mark.parametrize(
    "prompt", ["[[refusal]] Hi", "[[content_filter]] Hi", "[[words=50]] Hi", "[[no_finish]] Hi"]
)
async def test_incomplete_answers_are_not_cached(
    router: BaseLLMRouter, upstream: Upstream, prompt: str
) -> None:
    for _ in range(2):
        assert await ask(router, prompt, max_tokens_override=5) is MISS
    assert await upstream.calls() == 2


async def test_errors_are_not_cached(router: BaseLLMRouter, upstream: Upstream) -> None:
    for _ in range(2):
        with pytest.raises(LLMError):
            await ask(router, "[[status=422]] Hi")
    assert await upstream.calls() == 2
    assert router.get_metrics()["cache_entries"] == 0


async def test_the_answer_of_a_fallback_is_cached_for_the_route(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    await upstream.script("status=401")
    first = await router.complete("Hello", use_case="debugging")
    second = await router.complete("Hello", use_case="debugging")
    assert (first.provider, second.provider) == ("second", "second")
    assert second.routing.cache is HIT


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thousand_identical_requests_make_one_call(
    router: BaseLLMRouter, upstream: Upstream, stream: bool
) -> None:
    async def one() -> tuple[CacheState, str]:
        if not stream:
            answer = await router.complete("[[delay=0.3]] Hello", use_case="debugging")
        else:
            events = [
                event async for event in router.stream("[[delay=0.3]] Hello", use_case="debugging")
            ]
            last = events[-1]
            assert isinstance(last, AnswerEnded)
            assert last.response is not None
            answer = last.response
        return answer.routing.cache, answer.content

    answers = await asyncio.gather(*(one() for _ in range(1000)))
    assert await upstream.calls() == 1
    assert len({content for _, content in answers}) == 1
    assert sum(state is HIT for state, _ in answers) == 999


async def test_waiting_requests_are_served_if_the_leading_one_is_cancelled(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    await upstream.script("delay=600")
    tasks = [asyncio.create_task(ask(router)) for _ in range(50)]
    while await upstream.calls() == 0:
        await asyncio.sleep(0.01)
    tasks[0].cancel()
    states = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(states[0], asyncio.CancelledError)
    assert sorted(states[1:], key=str) == [*[HIT] * 48, MISS]
    assert await upstream.calls() == 2


async def read(
    router: BaseLLMRouter, wire_format: CallerFormat, request: LLMRequest
) -> tuple[CacheState, list[Frame], bytes]:
    stream = await router.open(request, Caller(), "req_1")
    renderer = wire_format.stream_renderer(request)
    frames: list[Frame] = []
    rendered = b""
    try:
        async for batch in stream:
            frames += batch
            rendered += b"".join([renderer.render(frame) for frame in batch])
        rendered += renderer.end()
        facts = stream.response_facts()
        if facts.cache is HIT:
            assert facts.cost == 0
        else:
            assert facts.cost
    finally:
        await stream.aclose()
    return stream.facts.cache, frames, rendered


async def test_a_replayed_stream_is_the_original_byte_for_byte(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    body = {
        "model": "debugging",
        "messages": [{"role": "user", "content": "[[comments extra_fields split=7]] Grüße 🎉"}],
        "stream": True,
    }
    plain = OpenAIChat().read_request(body)
    with_usage = OpenAIChat().read_request({**body, "stream_options": {"include_usage": True}})
    first = await read(router, OpenAIChat(), plain)
    second = await read(router, OpenAIChat(), plain)
    assert (first[0], second[0]) == (MISS, HIT)
    assert second[1:] == first[1:]
    assert b'"usage":{' not in second[2]
    asked = await read(router, OpenAIChat(), with_usage)
    assert asked[0] is HIT
    assert b'"usage":{' in asked[2]
    assert asked[1] == first[1]
    assert await upstream.calls() == 1


@pytest.mark.parametrize("reader", [OpenAIChat(), AnthropicMessages()], ids=lambda it: it.name)
@pytest.mark.parametrize("vendor", ["sandbox", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_is_written_in_the_callers_format(
    router: BaseLLMRouter,
    configuration: Configuration,
    reader: CallerFormat,
    vendor: str,
    stream: bool,
) -> None:
    if vendor == "anthropic":
        first = configuration.first
        first.vendor, first.base_url = "anthropic", first.base_url.removesuffix("/v1")
        first.set_api_key("sk-ant-sandbox")
        await first.asave()
    body = {
        "model": "debugging",
        "max_tokens": 100,
        "temperature": 0,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": stream,
    }
    request = reader.read_request(body)
    if stream:
        one, two = [await read(router, reader, request) for _ in range(2)]
        assert (one[0], two[0]) == (MISS, HIT)
        assert two[2] == one[2]
    else:
        answers = [await router.respond(request, Caller(), "req_1") for _ in range(2)]
        assert [answer.routing.cache for answer in answers] == [MISS, HIT]
        assert reader.write_response(answers[1]) == reader.write_response(answers[0])


async def test_a_hit_has_the_typed_events_of_the_original(router: BaseLLMRouter) -> None:
    async def events() -> list[StreamEvent]:
        return [event async for event in router.stream("Hello", use_case="debugging")]

    first, second = await events(), await events()
    assert second[:-1] == first[:-1]
    ends = [found[-1] for found in (first, second)]
    responses = [end.response for end in ends if isinstance(end, AnswerEnded)]
    assert [response.routing.cache for response in responses if response] == [MISS, HIT]
    assert responses[0]
    assert responses[1]
    assert responses[0].completion == responses[1].completion


async def test_a_cancelled_or_broken_stream_is_not_cached(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    for _ in range(2):
        async with aclosing(
            router.stream("[[token_delay=0.02]] a long answer", use_case="debugging")
        ) as events:
            async for _event in events:
                break
    for _ in range(2):
        with pytest.raises(LLMError):
            [event async for event in router.stream("[[cut_after=2]] Hi", use_case="debugging")]
    assert await upstream.calls() == 4


async def test_a_separate_router_has_its_own_limits(
    router: BaseLLMRouter, upstream: Upstream, put_forward: Callable[[float], None]
) -> None:
    small = await get_llm_router(config=RouterConfig(cache_max_size=2))
    for text in ("one", "two", "three"):
        await ask(small, text, tenant="a")
    metrics = small.get_metrics()
    assert (metrics["cache_entries"], metrics["cache_evictions_total"]) == (2, 1)
    assert await ask(small, "three", tenant="a") is HIT
    assert router.get_metrics()["cache_entries"] == 0

    no_memory = await get_llm_router(config=RouterConfig(cache_memory_limit_mb=0))
    await ask(no_memory, "four")
    assert no_memory.get_metrics()["cache_bytes"] == 0

    off = await get_llm_router(config=RouterConfig(cache_ttl=0))
    assert await ask(off, "three", tenant="a") is BYPASS

    brief = await get_llm_router(config=RouterConfig(cache_ttl=60))
    assert await ask(brief, "five") is MISS
    assert await ask(brief, "five") is HIT
    put_forward(61)
    assert await ask(brief, "five") is MISS


async def test_the_size_of_the_cache_is_limited(router: BaseLLMRouter) -> None:
    small = await get_llm_router(config=RouterConfig(cache_memory_limit_mb=1))
    for number in range(12):
        await ask(small, f"[[words=20000]] {number}")
    metrics = small.get_metrics()
    assert 0 < metrics["cache_bytes"] <= 1024 * 1024
    assert metrics["cache_evictions_total"] > 0
    assert metrics["cache_entries"] + metrics["cache_evictions_total"] == 12


async def test_cached_answers_are_not_written_to_files(router: BaseLLMRouter) -> None:
    """Without Redis answers are in the memory of their process only."""
    await router.complete("a secret plan", use_case="debugging")
    assert await ask(router, "a secret plan") is HIT
    assert not (get_settings().state_dir / "answers").exists()


async def test_neither_hits_nor_misses_use_threads_or_the_database(
    router: BaseLLMRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(router, "warm up the connection")
    hops: list[str] = []
    execute = CursorWrapper.execute

    def watched_execute(self: CursorWrapper, *args: Any) -> Any:
        if threading.current_thread().name != "llm_routing":
            hops.append("query")
        return execute(self, *args)

    def no_thread(*_: Any) -> None:
        hops.append("thread")

    with monkeypatch.context() as watched:
        watched.setattr(CursorWrapper, "execute", watched_execute)
        watched.setattr(threading.Thread, "start", no_thread)
        watched.setattr(asyncio.BaseEventLoop, "run_in_executor", no_thread)
        assert [await ask(router) for _ in range(2)] == [MISS, HIT]
    assert hops == []
