"""`GET /metrics`: access, formats, paths and cost."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path

from llm_routing import BaseLLMRouter
from llm_routing.checks import check_deployment
from llm_routing.conf import get_settings
from llm_routing.models import ApiKey
from tests.serving.exchange import Exchange, watch_hops

from .conftest import Numbers

urlpatterns = [path("gateway/", include("llm_routing.urls"))]


@pytest.fixture
async def key(router: BaseLLMRouter) -> str:
    _, clear_text = await sync_to_async(ApiKey.objects.issue)("prometheus", reads_metrics=True)
    return clear_text


@pytest.fixture
def client(router: BaseLLMRouter) -> AsyncClient:
    return AsyncClient()


def use(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_it_asks_for_a_key(client: AsyncClient, key: str) -> None:
    refused = await client.get("/metrics")
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "unauthenticated"
    assert (await client.get("/metrics", headers=bearer("sk-llm-" + "x" * 43))).status_code == 401
    found = await client.get("/metrics", headers=bearer(key))
    assert found.status_code == 200
    assert found.headers["Cache-Control"] == "no-store"
    assert Numbers(found.content.decode()).sum("processes") == 1
    assert (await client.get("/metrics", headers={"x-api-key": key})).status_code == 200


async def test_it_is_for_keys_that_may_read_it(
    client: AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = await sync_to_async(ApiKey.objects.issue)("a-service")
    refused = await client.get("/metrics", headers=bearer(other))
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "permission_denied"
    assert (await client.get("/metrics", headers=bearer(key))).status_code == 200
    use(monkeypatch, LLM_METRICS_KEY_NAMES="grafana, a-service")
    assert (await client.get("/metrics", headers=bearer(other))).status_code == 200


async def test_the_right_to_read_them_can_be_given_and_taken(client: AsyncClient, key: str) -> None:
    await ApiKey.objects.aupdate(reads_metrics=False)
    assert (await client.get("/metrics", headers=bearer(key))).status_code == 403
    await ApiKey.objects.aupdate(reads_metrics=True)
    assert (await client.get("/metrics", headers=bearer(key))).status_code == 200


async def test_it_can_be_open(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, LLM_METRICS_ACCESS="open")
    assert (await client.get("/metrics")).status_code == 200
    assert "llm_routing.W004" in {message.id for message in check_deployment()}


async def test_it_can_be_off(
    client: AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, LLM_METRICS_ACCESS="off")
    answer = await client.get("/metrics", headers=bearer(key))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_endpoint"


async def test_only_get_is_answered(client: AsyncClient, key: str) -> None:
    answer = await client.post("/metrics", headers=bearer(key))
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_the_format_is_negotiated(client: AsyncClient, key: str) -> None:
    plain = await client.get("/metrics", headers=bearer(key))
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    other = await client.get("/metrics", headers=bearer(key) | {"Accept": accept})
    assert other.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert other.content.endswith(b"# EOF\n")


@override_settings(ROOT_URLCONF=__name__)
async def test_it_is_under_the_prefix_of_the_others(client: AsyncClient, key: str) -> None:
    assert (await client.get("/gateway/metrics", headers=bearer(key))).status_code == 200
    assert (await client.get("/metrics", headers=bearer(key))).status_code == 404


async def test_it_answers_under_wsgi(key: str) -> None:
    answer = await asyncio.to_thread(Client().get, "/metrics", headers=bearer(key))
    assert answer.status_code == 200
    assert b"llm_routing_processes" in answer.content


async def test_a_scrape_starts_no_thread_and_asks_no_database(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await Exchange("/metrics", b"", key, method="GET").run()).status == 200
    hops = watch_hops(monkeypatch)
    answer = await Exchange("/metrics", b"", key, method="GET").run()
    assert answer.status == 200
    assert b"llm_routing_processes 1.0" in answer.content
    assert hops == []
