"""Tokens, costs and vendors in responses, records and logs, over real sockets."""

import json
import logging
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from llm_routing import close_routers
from llm_routing.api.request_log import MAX_LINES, LogRateLimit
from llm_routing.models import ModelConfig, Provider, UsageRecord
from tests.faults.upstream import Exchange, RawUpstream

from .conftest import CAPABILITIES, Gateway

HEADERS = (
    b"x-request-id: req_vendor\r\nx-ratelimit-remaining-tokens: 149984\r\n"
    b"set-cookie: session=1\r\nopenai-organization: acme\r\nconnection: close\r\n"
)
SHOWN = {
    "x-upstream-request-id": "req_vendor",
    "x-upstream-x-ratelimit-remaining-tokens": "149984",
}
CLAUDE_USAGE = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 12_304,
    "cache_creation": {"ephemeral_5m_input_tokens": 12_304, "ephemeral_1h_input_tokens": 0},
    "cache_read_input_tokens": 0,
    "output_tokens": 550,
}
OPENROUTER_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 10,
    "total_tokens": 1010,
    "cost": 0.00014175,
}


def answer_of(exchange: Exchange) -> bytes:
    """Returns a whole answer, or a stream, in the requested format."""
    asked = exchange.asked
    if exchange.is_anthropic:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
        if not asked.stream:
            content = [{"type": "text", "text": "Hi"}]
            body = {**message, "content": content, "stop_reason": "end_turn"}
            return json.dumps({**body, "stop_sequence": None, "usage": CLAUDE_USAGE}).encode()
        events: list[dict[str, Any]] = [
            {
                "type": "message_start",
                "message": {
                    **message,
                    "content": [],
                    "usage": {**CLAUDE_USAGE, "output_tokens": 1},
                },
            },
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": "Hi"},
            },
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 550},
            },
            {"type": "message_stop"},
        ]
        return b"".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
        )
    answer = {"id": "c", "created": 1, "model": "m", "usage": OPENROUTER_USAGE}
    part = {"role": "assistant", "content": "Hi"}
    choice = {"index": 0, "finish_reason": "stop", "delta" if asked.stream else "message": part}
    kind = "chat.completion.chunk" if asked.stream else "chat.completion"
    data = json.dumps({**answer, "object": kind, "choices": [choice]}).encode()
    return b"data: " + data + b"\n\ndata: [DONE]\n\n" if asked.stream else data


async def answers(exchange: Exchange) -> None:
    body = answer_of(exchange)
    kind = b"text/event-stream" if exchange.asked.stream else b"application/json"
    length = f"content-length: {len(body)}\r\n".encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n" + HEADERS + length
    await exchange.send(head + b"\r\n" + body)


async def refuses(exchange: Exchange) -> None:
    reason = "max_tokens must be positive; you sent 'my secret plan'"
    body = json.dumps({"error": {"message": reason, "type": "invalid_request_error"}}).encode()
    length = f"content-length: {len(body)}\r\n".encode()
    await exchange.send(b"HTTP/1.1 400 Bad\r\n" + HEADERS + length + b"\r\n" + body)


@pytest.fixture
async def vendor(configuration: None) -> AsyncIterator[RawUpstream]:
    """A vendor under three names: `raw` (a server of one's own), `router` (OpenRouter) and `ant`
    (Anthropic), each with the model `m` at 3 and 15 USD."""
    async with RawUpstream(answers) as upstream:
        for name, vendor, path in (
            ("raw", "vllm", "/v1"),
            ("router", "openrouter", "/v1"),
            ("ant", "anthropic", ""),
        ):
            provider = Provider(name=name, vendor=vendor, base_url=upstream.url + path)
            provider.set_api_key("sk-test-0123456789")
            await provider.asave()
            await ModelConfig.objects.acreate(
                provider=provider,
                model_id="m",
                capabilities=CAPABILITIES,
                input_price="3",
                output_price="15",
            )
        yield upstream


async def record_of() -> UsageRecord:
    await close_routers()
    return await UsageRecord.objects.aget()


@pytest.mark.parametrize("stream", [False, True])
async def test_cache_writes_are_billed_and_shown_to_callers_of_openai(
    vendor: RawUpstream, gateway: Gateway, stream: bool
) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
    answer = await gateway.chat("Hi", model="ant/m", stream=stream, **options)
    assert answer.status_code == 200
    if stream:
        usage = json.loads(answer.text.split("data: ")[-2])["usage"]
    else:
        usage = answer.json()["usage"]
    assert usage["prompt_tokens"] == 12_307
    assert usage["prompt_tokens_details"]["cache_write_tokens"] == 12_304
    assert usage["cache_creation_input_tokens"] == 12_304
    record = await record_of()
    assert (record.input_tokens, record.cache_write_tokens) == (12_307, 12_304)
    assert (record.cost, record.cost_source) == (Decimal("0.054399"), "price_list")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "cost", "source"),
    [("router/m", "0.00014175", "vendor"), ("raw/m", "0.00315", "price_list")],
)
async def test_the_bill_of_a_vendor_that_sends_one_is_the_cost(
    vendor: RawUpstream, gateway: Gateway, model: str, cost: str, source: str, stream: bool
) -> None:
    answer = await gateway.chat(model=model, stream=stream)
    assert answer.status_code == 200
    record = await record_of()
    assert (record.cost, record.cost_source) == (Decimal(cost), source)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_vendor_s_request_id_and_limits_reach_callers_and_the_record(
    vendor: RawUpstream, gateway: Gateway, stream: bool
) -> None:
    answer = await gateway.chat(model="raw/m", stream=stream)
    shown = {name: value for name, value in answer.headers.items() if "upstream" in name}
    assert shown == SHOWN
    assert "set-cookie" not in answer.headers
    assert (await record_of()).upstream_request_id == "req_vendor"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendor_s_error_keeps_its_message_and_request_id(
    vendor: RawUpstream, gateway: Gateway, stream: bool
) -> None:
    vendor.usual = refuses
    answer = await gateway.chat(model="raw/m", stream=stream)
    assert answer.status_code == 400
    shown = {name: value for name, value in answer.headers.items() if "upstream" in name}
    assert shown == SHOWN
    record = await record_of()
    assert record.upstream_request_id == "req_vendor"
    assert "max_tokens must be positive" in record.error_message
    assert "secret" not in record.error_message


async def test_a_rejected_request_is_logged_with_its_id(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_routing.api")
    headers = {"x-request-id": "mine-1"}
    body = {"model": "no-such", "messages": [{"role": "user", "content": "my secret plan"}]}
    assert (await gateway.post("/v1/chat/completions", body, headers)).status_code == 404
    wrong = {**headers, "Authorization": "Bearer sk-llm-wrong"}
    assert (await gateway.post("/v1/chat/completions", body, wrong)).status_code == 401
    lines = [record.getMessage() for record in caplog.records if record.name == "llm_routing.api"]
    known, unknown = (line for line in lines if "mine-1" in line)
    assert "status=404 code=unknown_model tenant=acme key=tests attempts=0" in known
    assert "status=401 code=unauthenticated tenant=- key=- attempts=0" in unknown
    assert "secret" not in caplog.text


def test_lines_of_refused_requests_are_limited_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "llm_routing.api")
    now = 7.0
    lines = LogRateLimit(lambda: now)
    assert [lines.take(is_anonymous=True) for _ in range(7)] == [True] * 5 + [False] * 2
    taken = [lines.take(is_anonymous=False) for _ in range(200)]
    assert taken == [True] * (MAX_LINES - 5) + [False] * (200 - MAX_LINES + 5)
    now = 8.0
    assert lines.take(is_anonymous=True)
    assert "107 more requests" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_hits_and_replays_are_logged_with_their_request_id(
    vendor: RawUpstream, gateway: Gateway, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    caplog.set_level(logging.INFO, "llm_routing.api")
    # Entries in Redis outlive a test.
    name = uuid4().hex
    once = {"idempotency-key": name}
    body = {
        "model": "ant/m",
        "messages": [{"role": "user", "content": f"my secret plan {name}"}],
        "temperature": 0,
        "stream": stream,
    }
    for request_id, headers in (("first-1", once), ("replay-1", once), ("hit-1", {})):
        headers = {**headers, "x-request-id": request_id}
        assert (await gateway.post("/v1/chat/completions", body, headers)).status_code == 200
    lines = [record.getMessage() for record in caplog.records if record.name == "llm_routing.api"]
    replay, hit = lines
    assert replay == (
        "Reused: request_id=replay-1 by=replay provider=ant model=m tenant=acme key=tests"
    )
    assert hit == "Reused: request_id=hit-1 by=cache provider=ant model=m tenant=acme key=tests"


async def test_hits_and_replays_cost_nothing(vendor: RawUpstream, gateway: Gateway) -> None:
    # Entries in Redis outlive a test.
    name = uuid4().hex
    once = {"idempotency-key": name}
    body = {"model": "ant/m", "messages": [{"role": "user", "content": name}], "temperature": 0}
    costs = []
    for headers in (once, once, {}):
        answer = await gateway.post("/v1/chat/completions", body, headers)
        assert answer.status_code == 200
        costs.append(Decimal(answer.headers["x-llm-cost-usd"]))
    assert costs == [Decimal("0.054399"), 0, 0]
    assert len(vendor.log) == 1
    assert (await record_of()).cost == costs[0]
