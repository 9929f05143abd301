"""A gateway over a real socket in the test's own event loop, with a sandbox as upstream, and its
callers."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from django.core.asgi import get_asgi_application as django_application

from llm_routing import close_routers
from llm_routing.access.api_keys import api_keys
from llm_routing.asgi import get_asgi_application as lean_application
from llm_routing.conf import get_settings
from llm_routing.configuration.snapshot import EMPTY_SNAPSHOT
from llm_routing.configuration.source import snapshot_source
from llm_routing.models import ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.sandbox import Sandbox

CAPABILITIES = ["chat", "streaming", "tools", "json_schema", "vision", "reasoning"]
SSE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, a key it takes, and the sandbox that its providers lead to."""

    url: str
    key: str
    client: httpx.AsyncClient
    sandbox: Sandbox
    application: str

    async def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """POST a body with the key; bytes are sent as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **(headers or {})}
        return await self.client.post(path, content=content, headers=given)

    async def complete(self, messages: Any = "Hi", **more: Any) -> httpx.Response:
        """POST /api/llm/complete to the debugging route."""
        more.setdefault("use_case", "debugging")
        return await self.post("/api/llm/complete", {"messages": messages, **more})

    async def chat(self, text: str = "Hi", **more: Any) -> httpx.Response:
        """POST /v1/chat/completions to the debugging route."""
        more.setdefault("model", "debugging")
        more.setdefault("messages", [{"role": "user", "content": text}])
        return await self.post("/v1/chat/completions", more)

    async def message(self, text: str = "Hi", **more: Any) -> httpx.Response:
        """POST /v1/messages to the debugging route."""
        more.setdefault("model", "debugging")
        more.setdefault("max_tokens", 100)
        more.setdefault("messages", [{"role": "user", "content": text}])
        return await self.post("/v1/messages", more)


@pytest.fixture
def clean_process(
    transactional_db: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The process as it starts: nothing in memory, nothing on disk."""
    monkeypatch.setenv("LLM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {}, raising=False)
    get_settings.cache_clear()
    snapshot_source.current = EMPTY_SNAPSHOT
    api_keys.clear()
    yield
    snapshot_source.current = EMPTY_SNAPSHOT
    api_keys.clear()
    get_settings.cache_clear()


@pytest.fixture
async def upstream() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def api_key(clean_process: None) -> str:
    return ApiKey.objects.issue("tests", tenant="acme", reads_metrics=True)[1]


@pytest.fixture
def configuration(clean_process: None, upstream: Sandbox) -> None:
    """The use case debugging with a fallback, and one for each crossing of the formats."""
    first = Provider.objects.create(name="first", vendor="vllm", base_url=upstream.openai_url)
    second = Provider.objects.create(name="second", vendor="vllm", base_url=upstream.openai_url)
    claude = Provider.objects.create(name="claude", vendor="anthropic", base_url=upstream.url)
    claude.set_api_key("sk-ant-sandbox")
    claude.save()
    price = {"input_price": "2", "output_price": "10"}
    alpha = ModelConfig.objects.create(
        provider=first, model_id="org/alpha:1", alias="best", capabilities=CAPABILITIES, **price
    )
    beta = ModelConfig.objects.create(provider=second, model_id="beta", capabilities=CAPABILITIES)
    opus = ModelConfig.objects.create(provider=claude, model_id="opus", capabilities=CAPABILITIES)
    vectors = ModelConfig.objects.create(
        provider=first, model_id="vectors", capabilities=["embeddings"]
    )
    routes = {
        ("debugging", "standard"): (alpha, beta),
        ("debugging", "premium"): (opus, beta),
        ("thinking", "standard"): (opus,),
        ("memory_processing", "standard"): (vectors,),
    }
    for (use_case, tier), models in routes.items():
        route = UseCaseRoute.objects.create(use_case=use_case, tier=tier)
        for position, model in enumerate(models):
            RouteTarget.objects.create(route=route, model=model, position=position)


@pytest.fixture(params=["lean", "django"])
async def gateway(
    request: pytest.FixtureRequest, configuration: None, api_key: str, upstream: Sandbox
) -> AsyncIterator[Gateway]:
    application = lean_application() if request.param == "lean" else django_application()
    lifespan = "on" if request.param == "lean" else "off"
    headers = {"Authorization": f"Bearer {api_key}"}
    async with (
        serving(application, lifespan) as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client,
    ):
        yield Gateway(url, api_key, client, upstream, request.param)
    await close_routers()


@asynccontextmanager
async def serving(application: Any, lifespan: Any, http: Any = "auto") -> AsyncIterator[str]:
    """The application under uvicorn on a free port; its address."""
    config = uvicorn.Config(
        application, host="127.0.0.1", port=0, lifespan=lifespan, log_config=None, http=http
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.result()
        await asyncio.sleep(0.005)
    listening = server.servers[0].sockets[0]
    # The kernel buffers little, so a caller that does not read is noticed soon.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    port = listening.getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
