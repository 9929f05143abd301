"""The whole gateway over real sockets between callers and providers that fail, and a witness."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from llm_routing import close_routers
from llm_routing.asgi import get_asgi_application
from llm_routing.conf import get_settings
from llm_routing.health.monitor import health_monitor
from llm_routing.models import (
    ApiKey,
    ModelConfig,
    Provider,
    RouteTarget,
    UsageRecord,
    UseCaseRoute,
)
from llm_routing.process.background import ensure_background
from llm_routing.sandbox import Sandbox
from tests.api.conftest import clean_process, serving

from .callers import Caller, Client, Reply
from .upstream import RawUpstream, behave, until
from .witness import Witness, came_back, database_connections, sockets

__all__ = ["clean_process"]

CAPABILITIES = ["chat", "streaming", "tools", "json_schema", "vision", "reasoning", "prefill"]
UPSTREAM_KEY = "sk-upstream-5e9bf0c8d1d54b0fa1c2"
OPENAI_MODELS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
ANTHROPIC_MODELS = ("opus", "sonnet")
ROUTES = {
    ("debugging", "standard"): ("alpha", "beta"),
    ("debugging", "premium"): ("opus", "sonnet"),
    ("debugging", "economy"): ("alpha",),
    ("chat_conversation", "standard"): OPENAI_MODELS,
}
DEFAULTS: Mapping[str, Any] = {
    "BREAKER_MINIMUM_CALLS": 1000,
    "BREAKER_WINDOW_CALLS": 1000,
    # The budget of retries and breakers have cases of their own.
    "RETRY_BUDGET": 1.0,
    "LEDGER_FLUSH_INTERVAL": 0.05,
    "MAX_ANSWER_BYTES": 256 * 1024,
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A gateway, who asks it, and the providers behind it: the sandbox, and one of bytes."""

    client: Client
    sandbox: Sandbox
    raw: RawUpstream
    key: str
    witness: Witness

    async def ask(self, caller: Caller, model: str = "debugging", **more: Any) -> Reply:
        """See `Client.ask`. What earlier requests taught about the health of targets is forgotten,
        so that the route's own order counts."""
        health_monitor.target_health.clear()
        return await self.client.ask(caller, model, **more)

    async def provider(self, model: str, **fields: Any) -> None:
        """Changes the provider of a model."""
        await Provider.objects.filter(name=f"of-{model}").aupdate(**fields)

    async def break_with(self, act: Any, *models: str) -> None:
        """Lets these models be answered by the provider of bytes, which does this."""
        self.raw.usual = act
        for model in models:
            is_anthropic = model in ANTHROPIC_MODELS
            url = self.raw.url if is_anthropic else f"{self.raw.url}/v1"
            await self.provider(model, base_url=url)

    async def route(self, use_case: str = "debugging", tier: str = "standard", **more: Any) -> None:
        """Changes a route."""
        await UseCaseRoute.objects.filter(use_case=use_case, tier=tier).aupdate(**more)

    async def records(self, reply: Reply) -> list[UsageRecord]:
        """The attempts of a request as they are accounted, once all of them are."""
        ledger = ensure_background().ledger
        assert await until(lambda: not ledger.open_attempts and ledger.backlog_bytes == 0)
        records = UsageRecord.objects.filter(request_id=reply.request_id).order_by("attempt")
        return [record async for record in records]

    async def asked(self, reply: Reply) -> list[str]:
        """The models that a request was tried with, in order."""
        return [record.model for record in await self.records(reply)]


@pytest.fixture
def routing(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """`settings.LLM_ROUTING` beyond what all cases have, as a case or its module says it."""
    return getattr(request, "param", {})


@pytest.fixture
def settled_settings(
    clean_process: None, routing: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {**DEFAULTS, **routing})
    get_settings.cache_clear()


@pytest.fixture
async def vendors() -> AsyncIterator[Sandbox]:
    """The sandbox in the test's own event loop."""
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def raw() -> AsyncIterator[RawUpstream]:
    async with RawUpstream(behave) as upstream:
        yield upstream


def configure(sandbox: Sandbox) -> str:
    """Providers, models and routes; the API key."""
    models = {}
    for name in (*OPENAI_MODELS, *ANTHROPIC_MODELS):
        is_anthropic = name in ANTHROPIC_MODELS
        provider = Provider(
            name=f"of-{name}",
            vendor="anthropic" if is_anthropic else "vllm",
            base_url=sandbox.url if is_anthropic else sandbox.openai_url,
        )
        provider.set_api_key(UPSTREAM_KEY)
        provider.save()
        models[name] = ModelConfig.objects.create(
            provider=provider,
            model_id=name,
            capabilities=CAPABILITIES,
            input_price="2",
            output_price="10",
        )
    for (use_case, tier), names in ROUTES.items():
        route = UseCaseRoute.objects.create(use_case=use_case, tier=tier)
        for position, name in enumerate(names):
            RouteTarget.objects.create(route=route, model=models[name], position=position)
    return ApiKey.objects.issue("tests", tenant="acme")[1]


@pytest.fixture
async def bench(
    settled_settings: None,
    vendors: Sandbox,
    raw: RawUpstream,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> AsyncIterator[Bench]:
    """The gateway for one case. What the issue promises of every case is checked at its end."""
    for product in ("llm_routing", "django.request", "aiohttp", "redis", "asyncio", "uvicorn"):
        caplog.set_level("DEBUG", logger=product)
    key = await sync_to_async(configure)(vendors)
    connections = database_connections()
    opened = sockets()
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        serving(get_asgi_application(), "on") as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as http,
    ):
        client = Client(http)
        witness = Witness(
            client, vendors, raw, secrets=(key, UPSTREAM_KEY), state=tmp_path / "state"
        )
        yield Bench(client, vendors, raw, key, witness)
        await witness.everything_ended()
        witness.look_at_files()
    await close_routers()
    await witness.nothing_goes_on()
    await witness.accounts_hold()
    await witness.nothing_leaked(caplog.records)
    await came_back(sockets, opened, "sockets")
    await came_back(database_connections, connections, "database connections")
