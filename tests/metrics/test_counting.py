"""The metrics that requests change in their process."""

import asyncio
import re
from contextlib import aclosing
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from llm_routing import BaseLLMRouter, RouterConfig, get_llm_router
from llm_routing.core.errors import LLMError, UnknownModel
from llm_routing.factory import get_exposition
from llm_routing.process.background import ensure_background

from .conftest import Numbers

ROUTE = {"operation": "chat", "use_case": "debugging", "tier": "standard"}
FIRST = {"provider": "first", "model": "alpha"}
SECOND = {"provider": "second", "model": "beta"}


async def scrape() -> Numbers:
    text, _ = (await get_exposition()).text("")
    return Numbers(text.decode())


async def until_in_progress(attempts: int) -> None:
    async with asyncio.timeout(90):
        while (await scrape()).sum("attempts_in_progress", **FIRST) != attempts:
            await asyncio.sleep(0.01)


async def test_an_answer_is_counted_with_its_attempt_tokens_cost_and_times(
    router: BaseLLMRouter,
) -> None:
    answer = await router.complete("Why?", use_case="debugging")
    numbers = await scrape()
    assert numbers.sum("requests_total", **ROUTE, outcome="success") == 1
    assert numbers.sum("requests_total") == 1
    assert numbers.sum("request_duration_seconds_count", **ROUTE) == 1
    assert numbers.sum("request_duration_seconds_bucket", le="+Inf", **ROUTE) == 1
    # The answer is made before the request has ended.
    assert 0 < answer.routing.latency_ms / 1000 <= numbers.sum("request_duration_seconds_sum")
    assert numbers.sum("overhead_seconds_sum", operation="chat") == pytest.approx(
        answer.routing.overhead_ms / 1000
    )
    assert numbers.sum("attempts_total", **FIRST, outcome="success") == 1
    assert numbers.sum("attempt_duration_seconds_count", **FIRST) == 1
    assert numbers.sum("tokens_total", **FIRST, kind="input") == answer.usage.input_tokens > 0
    assert numbers.sum("tokens_total", **FIRST, kind="output") == answer.usage.output_tokens > 0
    assert answer.cost is not None
    assert numbers.sum("cost_usd_total", **FIRST) == pytest.approx(float(answer.cost))
    assert numbers.sum("cache_requests_total", state="bypass") == 1
    assert numbers.sum("fallbacks_total") == 0
    assert numbers.sum("requests_in_progress") == numbers.sum("attempts_in_progress") == 0
    assert numbers.sum("breaker_state", **FIRST, state="closed") == 1
    assert numbers.sum("time_to_first_token_seconds_count") == 0


async def test_a_stream_ends_with_its_last_event_and_has_a_first_token(
    router: BaseLLMRouter,
) -> None:
    prompt = "[[token_delay=0.05]] Tell"
    async with aclosing(router.stream(prompt, use_case="debugging")) as events:
        await anext(events)
        during = await scrape()
        assert during.sum("requests_in_progress") == 1
        assert during.sum("attempts_in_progress", **FIRST) == 1
        assert during.sum("requests_total") == 0
        async for _ in events:
            pass
    numbers = await scrape()
    assert numbers.sum("requests_in_progress") == numbers.sum("attempts_in_progress") == 0
    assert numbers.sum("requests_total", outcome="success") == 1
    assert numbers.sum("time_to_first_token_seconds_count", **FIRST) == 1
    metrics = router.get_metrics()
    assert metrics["first_tokens_total"] == 1
    assert 0 < metrics["time_to_first_token_seconds_total"] <= metrics["request_seconds_total"]


async def test_a_disconnect_is_counted_as_cancelled(router: BaseLLMRouter) -> None:
    async with aclosing(router.stream("[[token_delay=0.2]] on", use_case="debugging")) as events:
        await anext(events)
    await until_in_progress(0)
    waiting = asyncio.create_task(router.complete("[[delay=20]] slow", use_case="debugging"))
    await until_in_progress(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    numbers = await scrape()
    assert numbers.sum("requests_total", **ROUTE, outcome="cancelled") == 2
    assert numbers.sum("attempts_total", **FIRST, outcome="cancelled") == 2
    assert numbers.sum("requests_in_progress") == numbers.sum("attempts_in_progress") == 0


async def test_a_stream_that_breaks_off_is_a_failure(router: BaseLLMRouter) -> None:
    prompt = "[[cut_after=3]] a b c d e"
    with pytest.raises(LLMError) as failed:  # noqa: PT012  # somewhere on the way
        async with aclosing(router.stream(prompt, use_case="debugging")) as events:
            async for _ in events:
                pass
    numbers = await scrape()
    assert numbers.sum("requests_total", outcome="failure") == 1
    assert numbers.sum("errors_total", code=failed.value.code) == 1
    assert numbers.sum("attempt_errors_total", provider="first", code=failed.value.code) == 1


async def test_a_target_that_is_left_for_the_next_one_is_a_fallback(router: BaseLLMRouter) -> None:
    answer = await router.complete("[[status=503 model=alpha]] Hi", use_case="debugging")
    assert answer.provider == "second"
    numbers = await scrape()
    assert numbers.sum("fallbacks_total", **FIRST) == 1
    assert numbers.sum("fallbacks_total") == 1
    assert numbers.sum("attempts_total", **FIRST, outcome="failure") >= 1
    assert numbers.sum("attempts_total", **SECOND, outcome="success") == 1
    assert numbers.sum("requests_total", outcome="success") == 1
    assert router.get_metrics()["fallbacks_total"] == 1


async def test_hits_and_misses_are_counted_separately(router: BaseLLMRouter) -> None:
    for _ in range(3):
        await router.complete("Same", use_case="debugging", cache=True)
    numbers = await scrape()
    assert numbers.sum("cache_requests_total", state="miss") == 1
    assert numbers.sum("cache_requests_total", state="hit") == 2
    assert numbers.sum("attempts_total") == 1
    assert numbers.sum("cache_entries") == 1
    assert numbers.sum("cache_bytes") > 0


async def test_evictions_of_every_router_add_up_and_stay(router: BaseLLMRouter) -> None:
    async with await get_llm_router(config=RouterConfig(cache_max_size=1)) as small:
        for prompt in ("one", "two", "three"):
            await small.complete(prompt, use_case="debugging", cache=True)
        assert (await scrape()).sum("cache_evictions_total") == 2
    assert (await scrape()).sum("cache_evictions_total") == 2


async def test_embeddings_are_an_operation_of_their_own(router: BaseLLMRouter) -> None:
    await router.embed(["one", "two"], model="second/vectors")
    numbers = await scrape()
    none = {"use_case": "", "tier": ""}
    assert numbers.sum("requests_total", operation="embeddings", outcome="success", **none) == 1
    assert numbers.sum("attempts_total", provider="second", model="vectors") == 1


async def test_text_of_a_caller_never_becomes_a_label(router: BaseLLMRouter) -> None:
    hostile = ['x"} 1\nllm_routing_requests_total{a="', "\x00", "ü" * 5000, "a/b/c", "{}"]
    hostile.extend(f"model-{number}" for number in range(50))
    before = (await scrape()).samples
    for name in hostile:
        with pytest.raises(UnknownModel):
            await router.complete("Hi", model_override=name, tenant=name[:20])
        with pytest.raises(UnknownModel):
            await router.complete("Hi", use_case=name)
    numbers = await scrape()
    assert numbers.sum("errors_total", code="unknown_model") == 2 * len(hostile)
    assert numbers.values("use_case") == {""}
    assert numbers.values("model") == set()
    assert numbers.values("provider") <= {""}
    assert len(numbers.samples) < len(before) + 30


async def test_the_text_is_openmetrics_too(router: BaseLLMRouter) -> None:
    await router.complete("Why?", use_case="debugging")
    exposition = await get_exposition()
    text, media_type = exposition.text("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    found = {family.name: family for family in openmetrics(text.decode())}
    assert found["llm_routing_requests"].type == "counter"
    assert found["llm_routing_request_duration_seconds"].unit == "seconds"


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=nonsense",
        "text/plain; version=;;=",
        "text/plain; version=9" + "9" * 5000,
        ",;,=",
        "*/*",
    ],
)
async def test_any_accept_header_gets_an_answer(router: BaseLLMRouter, accept: str) -> None:
    text, media_type = (await get_exposition()).text(accept)
    assert text
    assert len(media_type) < 200


async def test_counters_end_in_total_and_units_are_base_units(router: BaseLLMRouter) -> None:
    for family in (await scrape()).families:
        for sample in family.samples:
            assert sample.name.startswith("llm_routing_")
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert not re.search("_(ms|milliseconds|kb|mb|percent)(_|$)", sample.name)


async def test_get_metrics_gives_the_numbers_that_are_documented(router: BaseLLMRouter) -> None:
    answer = await router.complete("Why?", use_case="debugging")
    metrics = router.get_metrics()
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    table = page.partition("| key | counts |")[2]
    assert set(re.findall("`([a-z_]+)`", table)) == set(metrics)
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert metrics["requests_total"] == metrics["attempts_total"] == 1
    assert metrics["input_tokens_total"] == answer.usage.input_tokens
    assert metrics["cost_usd_total"] == pytest.approx(float(answer.cost or 0))
    assert metrics["overhead_seconds_total"] == pytest.approx(answer.routing.overhead_ms / 1000)


async def test_the_ledger_s_queues_are_read_off(router: BaseLLMRouter) -> None:
    ledger = ensure_background().ledger
    await router.complete("Why?", use_case="debugging")
    await asyncio.to_thread(_until_shipped)
    numbers = await scrape()
    assert numbers.sum("ledger_backlog_bytes") == ledger.backlog_bytes
    assert numbers.sum("ledger_unwritten_records") == numbers.sum("ledger_lost_total") == 0


def _until_shipped() -> None:
    import time

    deadline = time.monotonic() + 90
    while ensure_background().ledger.backlog_bytes:
        assert time.monotonic() < deadline
        time.sleep(0.02)
