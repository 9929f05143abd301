"""A model that its provider does not know any more comes last, and is marked where people look."""

import logging
from collections.abc import AsyncIterator

import pytest
from django.db import connections

from llm_routing import BaseLLMRouter, close_routers, get_llm_router
from llm_routing.health.monitor import HealthMonitor, health_monitor
from llm_routing.models import ConfigurationVersion, ModelConfig, Provider

from .conftest import (
    MODELS,
    Answer,
    Upstream,
    add_provider,
    add_route,
    completion,
    eventually,
    in_thread,
)

FIRST, SECOND = "/first/chat/completions", "/second/chat/completions"
GONE = Answer(404, {"error": {"message": "The model does not exist.", "code": "model_not_found"}})


@pytest.fixture
async def router(clean_process: None, upstream: Upstream) -> AsyncIterator[BaseLLMRouter]:
    def configure() -> None:
        for name in ("first", "second"):
            add_provider(name, f"{upstream.url}/{name}")
            upstream.answers[f"/{name}/models"] = Answer(body=MODELS)
            upstream.answers[f"/{name}/chat/completions"] = Answer(body=completion())
        add_route("first/alpha", "second/alpha")
        # The thread outlives the test, and with it a connection of the pool.
        connections.close_all()

    await in_thread(configure)
    yield await get_llm_router()
    await close_routers()


async def ask(router: BaseLLMRouter) -> str:
    """Returns the target that answered."""
    return (await router.complete("Hi", use_case="debugging")).provider


async def test_a_model_that_is_gone_is_left_marked_and_back_once_it_answers(
    router: BaseLLMRouter, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    version = await ConfigurationVersion.objects.aget(area="routing")
    upstream.answers[FIRST] = GONE
    for _ in range(4):
        assert await ask(router) == "second"
    assert upstream.count(FIRST) == 1
    assert health_monitor.target_health.unhealthy == {"first/alpha"}
    assert router.get_metrics()["breakers_open"] == 0
    marked = ModelConfig.objects.filter(vanished_at__isnull=False)
    await eventually(lambda: marked.all().exists())
    assert [str(row.model_id) async for row in marked.all()] == ["alpha"]

    # Its only target is called in any case.
    upstream.answers[FIRST] = Answer(body=completion())
    answer = await router.complete("Hi", model_override="first/alpha")
    assert answer.provider == "first"
    await eventually(lambda: not marked.all().exists())
    assert await ask(router) == "first"
    assert caplog.text.count("no longer knows the model alpha") == 1
    assert caplog.text.count("knows the model alpha again") == 1
    # The mark is an observation and no change of the configuration.
    assert await ConfigurationVersion.objects.aget(area="routing") == version


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return caplog.text.count(words)


def test_of_all_workers_one_logs_that_a_model_has_gone_and_that_it_is_back(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workers = [HealthMonitor() for _ in range(3)]
    key = ("first", "alpha")
    for worker in workers:
        worker.target_health.record_model_gone(key, 0.1)
        worker.refresh()
        worker.sync()
    assert told(caplog, "no longer knows the model alpha") == 1
    for worker in workers:
        worker.target_health.record_success(key, 0.1)
        worker.refresh()
        worker.sync()
    assert told(caplog, "knows the model alpha again") == 1
    assert not ModelConfig.objects.filter(vanished_at__isnull=False).exists()


def test_gone_models_without_a_row_or_database_are_logged_too(
    provider: Provider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    worker = HealthMonitor()
    worker.target_health.record_model_gone(("built-in", "omega"), 0.1)
    worker.refresh()
    worker.sync()
    assert told(caplog, "built-in no longer knows the model omega") == 1

    monkeypatch.setattr("llm_routing.health.monitor.MAX_UNSHARED_SECONDS", -1.0)
    worker.target_health.record_model_gone(("first", "alpha"), 0.1)
    worker.refresh()
    worker.refresh()
    assert told(caplog, "first no longer knows the model alpha") == 1
    worker.sync()
    assert told(caplog, "first no longer knows the model alpha") == 1
    assert ModelConfig.objects.filter(vanished_at__isnull=False).count() == 1
