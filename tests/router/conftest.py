"""A configuration for the sandbox, and routers that are closed after each test."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from llm_routing import BaseLLMRouter, close_routers, get_llm_router
from llm_routing.access.api_keys import api_keys
from llm_routing.conf import get_settings
from llm_routing.configuration.snapshot import EMPTY_SNAPSHOT
from llm_routing.configuration.source import snapshot_source
from llm_routing.models import ModelConfig, Provider, RouteTarget, UseCaseRoute
from tests.conftest import forget_breakers
from tests.servers import Server

CAPABILITIES = ["chat", "streaming", "tools", "json_schema", "vision"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The rows of a small configuration: two providers that both point to the sandbox."""

    first: Provider
    second: Provider
    model: ModelConfig
    fallback: ModelConfig
    route: UseCaseRoute


@pytest.fixture
def configuration(transactional_db: None, sandbox: Server) -> Configuration:
    base_url = f"{sandbox.url}/v1"
    first = Provider.objects.create(name="first", vendor="sandbox", base_url=base_url)
    second = Provider.objects.create(name="second", vendor="sandbox", base_url=base_url)
    price = {"input_price": "2", "output_price": "10", "cached_input_price": "0.5"}
    model = ModelConfig.objects.create(
        provider=first, model_id="alpha", alias="the-best", capabilities=CAPABILITIES, **price
    )
    fallback = ModelConfig.objects.create(
        provider=second, model_id="beta", capabilities=CAPABILITIES
    )
    ModelConfig.objects.create(
        provider=second,
        model_id="vectors",
        capabilities=["embeddings"],
        input_price=1,
        output_price=0,
    )
    route = UseCaseRoute.objects.create(
        use_case="debugging", tier="standard", system_prompt="Find the root cause."
    )
    RouteTarget.objects.create(route=route, model=model, position=0)
    RouteTarget.objects.create(route=route, model=fallback, position=1)
    return Configuration(first, second, model, fallback, route)


@pytest.fixture
def clean_process(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Resets the process: nothing in memory, nothing on disk."""
    monkeypatch.setenv("LLM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {}, raising=False)
    forget_breakers(os.environ.get("REDIS_URL"))
    get_settings.cache_clear()
    snapshot_source.current = EMPTY_SNAPSHOT
    api_keys.clear()
    yield
    snapshot_source.current = EMPTY_SNAPSHOT
    api_keys.clear()
    get_settings.cache_clear()


@pytest.fixture
async def connections_given_back(transactional_db: None) -> AsyncIterator[None]:
    """Closes the connection that the ORM's asynchronous methods keep in asgiref's thread."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture
async def router(
    configuration: Configuration, clean_process: None, connections_given_back: None
) -> AsyncIterator[BaseLLMRouter]:
    yield await get_llm_router()
    await close_routers()
