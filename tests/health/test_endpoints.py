"""`/api/llm/health` of a server in a process of its own: live, ready, and how its targets are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import AsyncClient

from llm_routing import close_routers
from llm_routing.configuration.snapshot import EMPTY_SNAPSHOT
from llm_routing.configuration.source import snapshot_source
from llm_routing.factory import sweep_health
from llm_routing.health.sweep import Selection
from llm_routing.models import ApiKey, HealthCheck
from llm_routing.serving import readiness
from tests.servers import gateway_server
from tests.waiting import until

from .conftest import KEY, Answer, Upstream
from .routers import two

__all__ = ["two"]


@pytest.fixture
def client(two: Upstream, command_env: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """A client, with a key, of a server that monitors its targets."""
    key = ApiKey.objects.issue("tests")[1]
    env = command_env | {
        "ENABLE_MONITORING": "1",
        "HEALTH_CHECK_INTERVAL": "1",
        "LLM_BREAKER_MINIMUM_CALLS": "3",
        "LLM_BREAKER_OPEN_TIME": "60",
    }
    with (
        gateway_server(env, tmp_path / "gateway.log") as server,
        httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False
        ) as client,
    ):
        yield client


def health(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/llm/health").json()
    return found


def model(client: httpx.Client, provider: str = "first") -> dict[str, Any]:
    found: dict[str, Any] = health(client)["providers"][provider]["models"]["alpha"]
    return found


def ask(client: httpx.Client, address: str = "debugging") -> httpx.Response:
    return client.post("/api/llm/complete", json={"messages": "Hi", "model": address})


def test_a_monitoring_server_reports_the_health_of_its_targets(
    client: httpx.Client, two: Upstream
) -> None:
    assert client.get("/api/llm/health/live").json() == {"status": "live"}
    ready = client.get("/api/llm/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": []})
    until(lambda: health(client)["providers"]["first"]["last_check"])
    found = health(client)
    assert found["status"] == "healthy"
    assert found["providers"]["first"]["availability"] == 1

    two.answers["/first/models"] = Answer(401, {"error": {"message": "Wrong key."}})
    until(lambda: model(client)["status"] == "unhealthy")
    found = health(client)
    assert found["status"] == "degraded"
    assert found["providers"]["first"]["last_check"]["error_code"] == "credential_rejected"
    assert found["providers"]["first"]["status"] == "unhealthy"
    assert ask(client).headers["x-llm-provider"] == "second"

    two.answers["/second/models"] = Answer(500, b"")
    until(lambda: client.get("/api/llm/health").status_code == 503)
    assert health(client)["status"] == "unhealthy"
    # All of them are unhealthy, so they are tried.
    assert ask(client).status_code == 200


def test_an_open_breaker_is_reported_with_its_cause(client: httpx.Client, two: Upstream) -> None:
    two.answers["/first/chat/completions"] = Answer(500, b"")
    for _ in range(4):
        failed = ask(client, "first/alpha")
    assert failed.status_code == 503
    assert failed.json()["error"]["code"] == "no_target_available"
    assert 0 < int(failed.headers["Retry-After"]) <= 72
    breaker = model(client)["breaker"]
    assert (breaker["state"], breaker["cause"]) == ("open", "server_failed")
    assert 0 < breaker["retry_after"] <= 72
    passed = ask(client)
    assert passed.json()["provider"] == "second"


def test_without_a_key_only_the_status_is_shown_and_never_a_secret(
    client: httpx.Client, two: Upstream
) -> None:
    until(lambda: health(client)["providers"]["first"]["last_check"])
    for path in ("/api/llm/health", "/api/llm/health/"):
        stranger = httpx.get(client.base_url.join(path), trust_env=False)
        assert stranger.json() == {"status": "healthy"}
        assert stranger.headers["Cache-Control"] == "no-store"
        text = json.dumps(client.get(path).json())
        assert "providers" in text
        assert KEY not in text
        assert two.url not in text
    wrong = client.get("/api/llm/health", headers={"Authorization": "Bearer nonsense"})
    assert wrong.status_code == 401
    for path in ("/api/llm/health/live", "/api/llm/health/ready"):
        stranger = httpx.get(client.base_url.join(path), trust_env=False)
        assert stranger.status_code == 200


async def test_a_server_that_drains_is_not_ready_and_still_alive(
    two: Upstream, async_client: AsyncClient
) -> None:
    assert (await async_client.get("/api/llm/health/ready")).status_code == 200
    readiness.start_draining()
    try:
        draining = await async_client.get("/api/llm/health/ready")
        assert draining.status_code == 503
        assert draining.json() == {"status": "not_ready", "reasons": ["draining"]}
        assert (await async_client.get("/api/llm/health/live")).status_code == 200
    finally:
        readiness.stop_draining()
    await close_routers()


async def test_a_process_without_any_configuration_is_not_ready(
    two: Upstream, async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_source, "refresh", lambda **_: False)
    assert snapshot_source.current is EMPTY_SNAPSHOT
    answer = await async_client.get("/api/llm/health/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["no_configuration"]
    assert (await async_client.get("/api/llm/health")).status_code == 503
    await close_routers()


async def test_live_does_not_use_the_router(
    clean_process: None, async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_routing.api.health.get_llm_router", lambda: pytest.fail("asked"))
    assert (await async_client.get("/api/llm/health/live")).status_code == 200


def test_sweepers_outside_and_inside_take_turns(client: httpx.Client, two: Upstream) -> None:
    until(lambda: HealthCheck.objects.filter(model="").exists())
    report = sweep_health(Selection(), max_wait=20)
    assert report is not None
    assert report.is_healthy
