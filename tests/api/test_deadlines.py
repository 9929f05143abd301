"""The time limit of a request: its route, its key, its body, its header."""

import json

import pytest
from asgiref.sync import sync_to_async

from llm_routing.access.api_keys import api_keys
from llm_routing.models import ApiKey

from .conftest import Gateway


async def _ask_a_slow_provider(gateway: Gateway, headers: dict[str, str] | None = None) -> str:
    gateway.sandbox.journal.script("delay=30", "delay=30")
    body = {"messages": "Hi", "use_case": "debugging"}
    response = await gateway.post("/api/llm/complete", body, headers)
    assert response.status_code == 504, response.text
    return response.json()["error"]["code"]


async def test_a_header_gives_a_request_of_any_format_its_deadline(gateway: Gateway) -> None:
    assert await _ask_a_slow_provider(gateway, {"X-Request-Timeout": "0.3"}) == "deadline_exceeded"


@pytest.mark.parametrize(
    "given",
    [
        "soon",
        "0",
        "0.0",
        "-1",
        "+1",
        "nan",
        "inf",
        "1e9",
        "1e1",
        "",
        "1_0",
        "5 5",
        "5,5",
        "5s",
        ".5",
        "5.",
        "0x10",
        "86401",
        "1" * 400,
    ],
)
async def test_a_header_that_is_no_time_is_refused(gateway: Gateway, given: str) -> None:
    body = {"messages": "Hi", "use_case": "debugging"}
    response = await gateway.post("/api/llm/complete", body, {"X-Request-Timeout": given})
    assert response.status_code == 422
    assert "X-Request-Timeout" in response.json()["error"]["message"]


async def test_a_header_in_other_digits_or_given_twice_is_refused(gateway: Gateway) -> None:
    content = json.dumps({"messages": "Hi", "use_case": "debugging"}).encode()
    for given in (["\u0665".encode()], ["\xb2".encode("latin-1")], [b"5", b"5"]):
        headers = [(b"X-Request-Timeout", value) for value in given]
        response = await gateway.client.post("/api/llm/complete", content=content, headers=headers)
        assert response.status_code == 422
        assert "plain decimal number" in response.json()["error"]["message"]


async def test_a_key_has_a_deadline_of_its_own(gateway: Gateway) -> None:
    await sync_to_async(ApiKey.objects.update)(deadline=0.3)
    api_keys.clear()
    assert await _ask_a_slow_provider(gateway) == "deadline_exceeded"
