"""The router and the health of its targets: order, breakers, and errors."""

import asyncio
import threading
from contextlib import suppress

import pytest
from asgiref.sync import sync_to_async

from llm_routing import BaseLLMRouter, close_routers
from llm_routing.conf import get_settings
from llm_routing.core.breaker import BreakerState
from llm_routing.core.errors import AllTargetsFailed, LLMError, NoTargetAvailable, RequestRejected
from llm_routing.health.monitor import health_monitor
from llm_routing.health.target_health import MAX_CONSECUTIVE_FAILURES
from llm_routing.models import HealthCheck, SweepLease, UsageRecord

from .conftest import MODELS, Answer, Upstream, completion, eventually, swept
from .routers import (
    BRIEFLY,
    FIRST,
    SECOND,
    ask,
    failing,
    open_time,
    quick,
    router,
    state_of_first,
    trip,
    two,
)

__all__ = ["open_time", "quick", "router", "two"]


async def test_the_breaker_of_a_dead_target_opens_and_stops_its_calls(
    router: BaseLLMRouter, two: Upstream
) -> None:
    failing(two, FIRST)
    for _ in range(20):
        assert await ask(router) == "second"
        # The planner would put it last after three; this is about the breaker.
        health_monitor.target_health.clear()
    assert two.count(FIRST) == 4
    metrics = router.get_metrics()
    assert (metrics["breakers_open"], metrics["breaker_openings_total"]) == (1, 1)
    answer = await router.complete("Hi", use_case="debugging")
    assert [tried.error_code for tried in answer.routing.attempts] == ["breaker_open", ""]
    await close_routers()
    assert await UsageRecord.objects.filter(provider="first").acount() == 4
    assert await UsageRecord.objects.filter(provider="second").acount() == 21


@BRIEFLY
async def test_probes_find_out_that_a_target_is_well_again(
    router: BaseLLMRouter, two: Upstream
) -> None:
    failing(two, FIRST)
    for _ in range(10):
        await ask(router)
        health_monitor.target_health.clear()
    probed = threading.Event()
    two.answers[FIRST] = Answer(body=completion(), hold=probed)
    asked = two.count(FIRST)
    await eventually(lambda: state_of_first() is BreakerState.HALF_OPEN)
    health_monitor.target_health.clear()
    crowd = [asyncio.create_task(ask(router)) for _ in range(20)]
    # One probe alone is let through, and the others go on.
    await eventually(lambda: sum(task.done() for task in crowd) == 19)
    probed.set()
    assert sorted(await asyncio.gather(*crowd)) == ["first"] + ["second"] * 19
    assert two.count(FIRST) == asked + 1
    assert await ask(router) == "first"
    assert router.get_metrics()["breakers_open"] == 0


async def test_if_every_breaker_is_open_the_error_has_retry_after(
    router: BaseLLMRouter, two: Upstream
) -> None:
    failing(two, FIRST, SECOND)
    for _ in range(6):
        with pytest.raises(LLMError):
            await ask(router)
    asked = len(two.asked)
    with pytest.raises(NoTargetAvailable) as caught:
        await ask(router)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 1.2 * 300
    assert len(two.asked) == asked


async def test_errors_caused_by_the_request_open_no_breaker(
    router: BaseLLMRouter, two: Upstream
) -> None:
    two.answers[FIRST] = Answer(400, {"error": {"message": "No such field."}})
    for _ in range(12):
        with pytest.raises(RequestRejected):
            await ask(router)
    assert router.get_metrics()["breakers_open"] == 0
    assert health_monitor.target_health.unhealthy == frozenset()


async def test_callers_that_do_not_wait_open_no_breaker(
    router: BaseLLMRouter, two: Upstream
) -> None:
    two.answers[FIRST] = Answer(body=completion(), delay=1)
    for _ in range(6):
        with suppress(LLMError):
            await router.complete("Hi", use_case="debugging", timeout=0.05)
    assert router.get_metrics()["breakers_open"] == 0
    assert health_monitor.target_health.unhealthy == frozenset()


async def test_streams_count_when_they_have_ended(router: BaseLLMRouter, two: Upstream) -> None:
    failing(two, FIRST)
    for _ in range(6):
        with pytest.raises(LLMError):
            async for _event in router.stream("Hi", model_override="first/alpha"):
                pass
    assert router.get_metrics()["breakers_open"] == 1


async def test_a_target_that_fails_in_a_row_comes_last_until_it_answers_again(
    router: BaseLLMRouter, two: Upstream
) -> None:
    failing(two, FIRST)
    while two.count(FIRST) < MAX_CONSECUTIVE_FAILURES:
        await ask(router)
    assert health_monitor.target_health.unhealthy == {"first/alpha"}
    asked = two.count(FIRST)
    assert await ask(router) == "second"
    assert two.count(FIRST) == asked
    # Its circuit is another matter.
    assert health_monitor.breakers is not None
    health_monitor.breakers.reset("first", "alpha")
    two.answers[FIRST] = Answer(body=completion())
    assert (await router.complete("Hi", model_override="first/alpha")).provider == "first"
    assert await ask(router) == "first"


@BRIEFLY
async def test_a_recovered_target_is_called_as_soon_as_its_breaker_allows(
    router: BaseLLMRouter, two: Upstream
) -> None:
    failing(two, FIRST)
    for _ in range(10):
        await ask(router)
    assert two.count(FIRST) < 10, "it comes last"
    # Its breaker opens as well, and a probe fails.
    await trip(router, two)
    breakers = health_monitor.breakers
    assert breakers is not None

    await eventually(lambda: state_of_first() is BreakerState.HALF_OPEN)
    with pytest.raises(LLMError):
        await router.complete("Hi", model_override="first/alpha")
    assert breakers.statuses()["first", "alpha"].retry_after <= 2 * 1.2
    two.answers[FIRST] = Answer(body=completion())
    # No call and no check has said that it is well.
    await eventually(lambda: state_of_first() is BreakerState.HALF_OPEN)
    await eventually(lambda: not health_monitor.target_health.unhealthy)
    assert await ask(router) == "first"
    assert state_of_first() is BreakerState.CLOSED


async def test_results_of_a_sweep_are_loaded_into_memory(
    router: BaseLLMRouter, two: Upstream
) -> None:
    two.answers["/first/models"] = Answer(401, {"error": {"message": "Wrong key."}})
    assert await ask(router) == "first"
    await sync_to_async(swept)()
    await eventually(lambda: "first/alpha" in health_monitor.target_health.unhealthy)
    assert await ask(router) == "second"
    two.answers["/first/models"] = Answer(body=MODELS)
    await sync_to_async(swept)()
    await eventually(lambda: not health_monitor.target_health.unhealthy)
    assert await ask(router) == "first"


async def test_if_all_targets_are_unhealthy_they_are_tried_anyway(
    router: BaseLLMRouter, two: Upstream
) -> None:
    for name in ("first", "second"):
        two.answers[f"/{name}/models"] = Answer(503, b"")
    await sync_to_async(swept)()
    await eventually(
        lambda: {"first/alpha", "second/alpha"} <= health_monitor.target_health.unhealthy
    )
    status = await router.get_health_status()
    assert status["status"] == "unhealthy"
    assert await ask(router) == "first"
    # A call that succeeds is newer event.
    assert (await router.get_health_status())["status"] == "degraded"


async def test_an_old_check_counts_no_more(
    router: BaseLLMRouter, two: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTH_CHECK_INTERVAL", "1")
    get_settings.cache_clear()
    two.answers["/first/models"] = Answer(503, b"")
    await sync_to_async(swept)()
    await eventually(lambda: "first/alpha" in health_monitor.target_health.unhealthy)
    await eventually(lambda: "first/alpha" not in health_monitor.target_health.unhealthy)
    assert await ask(router) == "first"


async def test_a_sweep_under_other_settings_does_not_affect_the_targets(
    router: BaseLLMRouter, two: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sync_to_async(swept)()
    await eventually(lambda: health_monitor.target_health.check_of(("first", "alpha")))
    # As a command in a shell without the server's variables reports them.
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("LLM_ALLOWED_UPSTREAM_NETWORKS", "10.0.0.0/8")
        get_settings.cache_clear()
        refused = await sync_to_async(swept)()
        deep = await sync_to_async(swept)(deep=True)
    get_settings.cache_clear()
    for report in (refused, deep):
        assert not report.is_healthy
        assert {result.error_code for result in report.results} == {"address_forbidden"}
    assert not await HealthCheck.objects.filter(is_healthy=False).aexists()
    lease = await SweepLease.objects.aget()
    assert lease.swept_at is not None
    assert lease.claimed_at is not None
    assert lease.swept_at < lease.claimed_at, "a sweep that asked nobody keeps no other from it"
    assert not health_monitor.target_health.unhealthy
    assert (await router.get_health_status())["status"] == "healthy"


async def test_the_status_shows_errors_and_no_secret(router: BaseLLMRouter, two: Upstream) -> None:
    await sync_to_async(swept)()
    assert await ask(router) == "first"
    two.answers[FIRST] = Answer(500, b"")
    await trip(router, two)
    for _ in range(3):
        assert await ask(router) == "second"
    await eventually(lambda: health_monitor.target_health.check_of(("first", "")))
    status = await router.get_health_status()
    assert status["status"] == "degraded"
    first, second = status["providers"]["first"], status["providers"]["second"]
    assert first["models"]["alpha"]["status"] == "unhealthy"
    assert first["models"]["alpha"]["error_rate"] == 0.75
    assert first["models"]["alpha"]["breaker"]["state"] == "open"
    assert first["models"]["alpha"]["breaker"]["cause"] == "server_failed"
    assert first["status"] == "degraded"
    assert first["availability"] == 1
    assert first["last_check"]["is_healthy"] is True
    assert second["status"] == "healthy"
    assert second["error_rate"] == 0
    assert second["latency_ms"] > 0
    assert "http" not in str(status)


async def test_a_failed_chain_still_says_all_targets_failed(
    router: BaseLLMRouter, two: Upstream
) -> None:
    failing(two, FIRST, SECOND)
    with pytest.raises(AllTargetsFailed):
        await ask(router)
