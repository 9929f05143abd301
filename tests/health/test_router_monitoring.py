"""What routers report of their breakers to other processes, and their sweeps in the background."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async

from llm_routing import BaseLLMRouter, RouterConfig, close_routers, get_llm_router
from llm_routing.conf import get_settings
from llm_routing.core.breaker import BreakerState
from llm_routing.health.monitor import health_monitor, reset_breakers
from llm_routing.models import BreakerReport, BreakerReset, HealthCheck, Provider
from llm_routing.models.databases import DatabaseNow

from .conftest import MODELS, Answer, Upstream, completion, eventually
from .routers import FIRST, ask, failing, open_time, quick, router, trip, two

__all__ = ["open_time", "quick", "router", "two"]


async def test_breakers_are_reported_to_all_and_reset_everywhere(
    router: BaseLLMRouter, two: Upstream
) -> None:
    failing(two, FIRST)
    for _ in range(5):
        await ask(router)
        health_monitor.target_health.clear()
    await eventually(BreakerReport.objects.exists)
    report = await BreakerReport.objects.aget()
    assert (report.provider, report.model, report.cause) == ("first", "alpha", "server_failed")
    assert report.state in ("open", "half_open")
    two.answers[FIRST] = Answer(body=completion())
    health_monitor.target_health.clear()
    await sync_to_async(reset_breakers)([("first", "alpha")], "ada")
    assert health_monitor.breakers is not None
    assert health_monitor.breakers.statuses()["first", "alpha"].state is BreakerState.CLOSED
    assert await ask(router) == "first"
    await eventually(lambda: not BreakerReport.objects.exists())


async def test_a_reset_that_another_process_ordered_is_obeyed(
    router: BaseLLMRouter, two: Upstream
) -> None:
    await trip(router, two)
    breakers = health_monitor.breakers
    assert breakers is not None
    # Resets are loaded before the first report is written.
    await eventually(BreakerReport.objects.exists)
    assert breakers.statuses()["first", "alpha"].openings == 1
    # As `reset_breakers` of another process writes it to the database.
    await BreakerReset.objects.acreate(
        provider="first", model="alpha", ordered_by="ada", ordered_at=DatabaseNow()
    )
    await eventually(lambda: not breakers.statuses()["first", "alpha"].cause)


async def test_an_ending_process_deletes_its_reports(router: BaseLLMRouter, two: Upstream) -> None:
    await trip(router, two)
    await eventually(BreakerReport.objects.exists)
    assert await BreakerReport.objects.acount() == 1
    await close_routers()
    assert await BreakerReport.objects.acount() == 0


async def test_monitoring_sweeps_inside_the_process_and_off_its_event_loop(
    quick: None, two: Upstream
) -> None:
    running = threading.Event()
    two.answers["/first/models"] = Answer(body=MODELS, hold=running)
    router = await get_llm_router(
        config=RouterConfig(enable_monitoring=True, health_check_interval=1)
    )
    await eventually(lambda: two.count("/first/models"))
    # If the sweep held up the event loop, its provider would never answer.
    running.set()
    await eventually(lambda: HealthCheck.objects.filter(model="").count() >= 4)
    assert not await HealthCheck.objects.filter(is_healthy=False).aexists()
    assert (await router.get_health_status())["status"] == "healthy"
    assert "llm_routing_sweeper" in {thread.name for thread in threading.enumerate()}
    await close_routers()
    assert "llm_routing_sweeper" not in {thread.name for thread in threading.enumerate()}


async def test_monitoring_is_off_by_default_and_a_setting_enables_it(
    quick: None, two: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await get_llm_router()
    await asyncio.sleep(0.5)
    assert two.asked == []
    await close_routers()
    monkeypatch.setenv("ENABLE_MONITORING", "true")
    get_settings.cache_clear()
    await get_llm_router(config=RouterConfig(enable_monitoring=False))
    await asyncio.sleep(0.5)
    assert two.asked == []
    await close_routers()
    await get_llm_router()
    await eventually(lambda: two.asked)
    await close_routers()


async def test_monitoring_uses_the_keys_of_its_router(
    clean_process: None, upstream: Upstream
) -> None:
    upstream.answers["/v1/key"] = Answer(body={"data": {}})
    row = add_provider_of_config(upstream)
    await row.asave()
    await get_llm_router(
        config=RouterConfig(
            openrouter_api_key="sk-upstream-0123456789abcdef",
            enable_monitoring=True,
            health_check_interval=1,
        )
    )
    await eventually(lambda: upstream.asked)
    await eventually(HealthCheck.objects.filter(is_healthy=True).exists)
    await close_routers()


def add_provider_of_config(upstream: Upstream) -> Provider:
    return Provider(name="openrouter", vendor="openrouter", base_url=upstream.base_url)
