"""Refused keys: counted, logged without the key, throttled by the address they come from."""

import asyncio
import logging

import pytest

from llm_routing.access.api_keys import api_keys
from llm_routing.access.refused_keys import (
    LOG_SECONDS,
    MOST_ADDRESSES,
    Reason,
    RefusedKeys,
    refused_keys,
)
from llm_routing.conf import get_settings
from llm_routing.core.errors import Throttled, Unauthenticated
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


def refuse(refused: RefusedKeys, address: str) -> None:
    refused.check(address)
    refused.refusal(Reason.UNKNOWN, address, took_query=True)


def test_time_gives_look_ups_back_and_a_debt_is_bounded() -> None:
    now = 0.0
    refused = RefusedKeys(lambda: now)
    most = get_settings().refused_keys_per_minute
    for _ in range(most):
        refuse(refused, "10.0.0.1")
    with pytest.raises(Throttled) as caught:
        refused.check("10.0.0.1")
    assert caught.value.retry_after == pytest.approx(60 / most)
    refused.check("10.0.0.2")
    now += 60 / most
    refuse(refused, "10.0.0.1")
    for _ in range(most * 10):  # they passed the check together
        refused.refusal(Reason.UNKNOWN, "10.0.0.1", took_query=True)
    with pytest.raises(Throttled) as caught:
        refused.check("10.0.0.1")
    assert caught.value.retry_after == pytest.approx(60 + 60 / most)


def test_addresses_of_one_client_count_together_in_bounded_memory() -> None:
    refused = RefusedKeys(lambda: 0.0)
    for number in range(get_settings().refused_keys_per_minute):
        refuse(refused, f"2001:db8::{number:x}")
    with pytest.raises(Throttled):
        refused.check("2001:db8::ffff")
    refused.check("2001:db8:0:1::1")
    refuse(refused, "::ffff:10.0.0.1")
    for number in range(MOST_ADDRESSES + 10):
        refuse(refused, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(refused._budgets) == MOST_ADDRESSES


async def test_many_requests_with_one_new_key_are_no_reason_to_throttle(gateway: Gateway) -> None:
    api_keys.clear()
    answers = await asyncio.gather(*(gateway.client.get("/v1/models") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}


def test_the_log_has_a_line_in_a_while_whatever_comes(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    refused = RefusedKeys(lambda: now)
    for _ in range(1000):
        assert isinstance(refused.refusal(Reason.UNKNOWN, "10.0.0.1"), Unauthenticated)
    now = LOG_SECONDS
    assert "expired" in str(refused.refusal(Reason.EXPIRED, "", "nightly"))
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == [
        "API keys refused: 1 unknown; the last one from 10.0.0.1.",
        (
            "API keys refused: 999 unknown, 1 expired; the last one from an unknown address, "
            "the key named 'nightly'."
        ),
    ]
