"""`/v1/messages` as Anthropic's clients know it, over a real socket."""

import json
from typing import Any

import httpx

from .conftest import SSE, Gateway

CROSSINGS = ("thinking", "debugging")


def events_of(text: str) -> list[Any]:
    """The events of a stream, pings left out; every name fits its data."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] != "ping":
            found.append(event)
    return found


async def test_either_kind_of_vendor_gives_the_same_shape(gateway: Gateway) -> None:
    for use_case in CROSSINGS:
        response = await gateway.message("Hello there", model=use_case)
        assert response.status_code == 200
        body = response.json()
        assert (body["type"], body["role"]) == ("message", "assistant")
        assert body["content"][0]["type"] == "text"
        assert "Hello there" in body["content"][0]["text"]
        assert body["stop_reason"] == "end_turn"
        assert body["usage"]["input_tokens"] > 0
        assert response.headers["request-id"] == response.headers["x-request-id"]
        assert response.headers["x-llm-attempts"] == "1"


async def test_a_stream_has_the_events_in_their_order(gateway: Gateway) -> None:
    for use_case in CROSSINGS:
        response = await gateway.message("Hello there", model=use_case, stream=True)
        assert response.headers["content-type"] == SSE
        events = events_of(response.text)
        kinds = [event["type"] for event in events]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert set(kinds[2:-3]) == {"content_block_delta"}
        text = "".join(event["delta"]["text"] for event in events[2:-3])
        assert "Hello there" in text
        assert events[-2]["usage"]["output_tokens"] > 0


async def test_a_stream_between_the_same_formats_is_relayed_byte_for_byte(gateway: Gateway) -> None:
    body: dict[str, Any] = {
        "model": "opus",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello [[extra_fields]]"}],
        "stream": True,
    }
    response = await gateway.message(**{**body, "model": "claude/opus"})
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        direct = await client.post(
            f"{gateway.sandbox.url}/v1/messages",
            json=body,
            headers={"x-api-key": "any", "anthropic-version": "2023-06-01"},
        )
    assert response.content == direct.content


async def test_an_error_in_the_middle_of_a_stream_is_its_last_event(gateway: Gateway) -> None:
    for use_case in CROSSINGS:
        response = await gateway.message("Hello [[cut_after=3]]", model=use_case, stream=True)
        events = events_of(response.text)
        assert events[-1]["type"] == "error"
        assert events[-1]["error"]["message"]
        assert "message_stop" not in [event["type"] for event in events]


async def test_tokens_are_counted_by_the_vendor_or_estimated(gateway: Gateway) -> None:
    body = {"messages": [{"role": "user", "content": "Hello there, how are you?"}]}
    for use_case in CROSSINGS:
        response = await gateway.post("/v1/messages/count_tokens", {"model": use_case, **body})
        assert response.status_code == 200
        assert set(response.json()) == {"input_tokens"}
        assert response.json()["input_tokens"] > 0
    assert [entry.path for entry in gateway.sandbox.journal.entries] == [
        "/v1/messages/count_tokens"
    ]
    wrong = await gateway.post("/v1/messages/count_tokens", {"model": "thinking"})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["type"] == "invalid_request_error"
