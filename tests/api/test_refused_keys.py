"""Refused keys: counted, logged without the key, throttled by the address they come from."""

import asyncio

import pytest

from llm_routing.access.api_keys import api_keys
from llm_routing.access.refused_keys import Reason, refused_keys
from llm_routing.conf import get_settings
from llm_routing.factory import get_exposition

from .conftest import Gateway

WRONG = "sk-llm-" + "w" * 43
PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/api/llm/complete"]


@pytest.fixture(autouse=True)
def fresh() -> None:
    refused_keys.reset()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", [*PATHS, "GET /v1/models", "GET /api/llm/health", "GET /metrics"])
async def test_a_refused_key_is_counted_once_and_never_logged(
    gateway: Gateway, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    method, _, path = path.rpartition(" ")
    answer = await gateway.client.request(method or "POST", path, headers=bearer(WRONG))
    assert answer.status_code == 401
    assert refused_keys.counts[Reason.UNKNOWN] == 1
    text, _ = (await get_exposition()).text("")
    assert 'llm_routing_refused_keys_total{reason="unknown"} 1.0' in str(text)
    assert "API keys refused: 1 unknown; the last one from 127.0.0.1." in caplog.text
    assert WRONG not in caplog.text


async def test_an_address_with_many_unknown_keys_is_throttled_and_known_keys_go_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_REFUSED_KEYS_PER_MINUTE", "3")
    get_settings.cache_clear()
    assert (await gateway.complete()).status_code == 200
    for number in range(3):
        wrong = bearer(f"sk-llm-{number:043}")
        assert (await gateway.client.get("/v1/models", headers=wrong)).status_code == 401
    answer = await gateway.client.get("/v1/models", headers=bearer(WRONG))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 20
    assert answer.json()["error"]["code"] == "throttled"
    assert (await gateway.complete()).status_code == 200
    api_keys.invalidate()  # each key is checked again, and a known one is not new
    assert (await gateway.complete()).status_code == 200


async def test_many_requests_with_one_new_key_are_no_reason_to_throttle(gateway: Gateway) -> None:
    api_keys.clear()
    answers = await asyncio.gather(*(gateway.client.get("/v1/models") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
