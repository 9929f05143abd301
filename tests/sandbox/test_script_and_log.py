"""The sandbox's script, log and reset, over HTTP."""

import asyncio
import hashlib
import json
from typing import Any

import pytest

from llm_routing.sandbox import Outcome, Sandbox, Step
from llm_routing.sandbox.journal import MAX_ENTRIES, MAX_STEPS, Journal, ScriptFull

from .raw import CHAT, EMBEDDINGS, MESSAGES, Carried, chat, connect, fetch, message, request


async def script(sandbox: Sandbox, steps: Any) -> Carried:
    return await fetch(sandbox, "/_sandbox/script", steps)


async def status(sandbox: Sandbox, model: str = "m") -> int:
    return (await fetch(sandbox, CHAT, chat("Hi", model=model))).status


async def test_each_request_uses_one_step(vendor: Sandbox):
    assert (await script(vendor, ["status=503", "", "status=429"])).json == {"scripted": 3}
    assert [await status(vendor) for _ in range(4)] == [503, 200, 429, 200]


async def test_a_step_applies_only_to_its_model_or_path(vendor: Sandbox):
    steps = [
        {"faults": "status=500", "model": "a", "times": 2},
        {"faults": "status=501", "path": "/v1/models"},
        {"faults": "status=502", "path": EMBEDDINGS},
    ]
    assert (await script(vendor, {"steps": steps})).json == {"scripted": 4}
    assert [await status(vendor, model) for model in ("b", "a", "a", "a")] == [200, 500, 500, 200]
    assert (await fetch(vendor, "/v1/models", b"", method="GET")).status == 501
    assert (await fetch(vendor, "/v1/models", b"", method="GET")).status == 200
    assert (await fetch(vendor, EMBEDDINGS, {"model": "e", "input": "x"})).status == 502


async def test_listing_models_uses_no_step_for_completions(vendor: Sandbox):
    vendor.journal.script("status=503")
    assert (await fetch(vendor, "/v1/models", b"", method="GET")).status == 200
    assert await status(vendor) == 503


@pytest.mark.parametrize(
    "wrong",
    [
        ["status=teapot"],
        ["status=503", "status=teapot"],
        "status=503",
        [3],
        [{"fault": "html"}],
        [{"faults": "html", "times": 0}],
        [{"faults": "html", "times": MAX_STEPS}, "html"],
        {},
        b"{",
    ],
)
async def test_an_invalid_script_adds_no_steps(vendor: Sandbox, wrong: Any):
    answer = await script(vendor, wrong)
    assert answer.status == 400
    assert answer.json["error"]
    assert not vendor.journal.steps


async def test_the_log_describes_requests_without_secrets_and_content(vendor: Sandbox):
    body = json.dumps(message("a private prompt", stream=True, made_up=1)).encode()
    await fetch(
        vendor,
        MESSAGES,
        body,
        authorization="Bearer sk-secret",
        x_api_key="sk-secret",
        cookie="session=sk-secret",
        x_trace="trace-1",
    )
    answer = await fetch(vendor, "/_sandbox/log", b"", method="GET")
    assert b"sk-secret" not in answer.body
    assert b"private" not in answer.body
    (entry,) = answer.json["entries"]
    assert entry["method"] == "POST"
    assert entry["path"] == MESSAGES
    assert entry["headers"]["x-api-key"] == "***"
    assert entry["headers"]["x-trace"] == "trace-1"
    assert entry["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert entry["body_bytes"] == len(body)
    assert entry["fields"] == ["made_up", "max_tokens", "messages", "model", "stream"]
    assert (entry["model"], entry["stream"], entry["status"]) == ("m", True, 200)
    assert entry["outcome"] == "finished"
    assert entry["events"] > 5
    assert entry["duration"] >= 0


async def test_reset_clears_script_and_log(vendor: Sandbox):
    vendor.journal.script("status=503")
    await fetch(vendor, "/v1/models", b"", method="GET")
    await fetch(vendor, "/_sandbox/reset", b"")
    log = (await fetch(vendor, "/_sandbox/log", b"", method="GET")).json
    assert log == {"received": 0, "scripted": 0, "entries": []}
    assert await status(vendor) == 200


async def test_the_error_for_an_unknown_control_endpoint_lists_the_known_ones(vendor: Sandbox):
    answer = await fetch(vendor, "/_sandbox/reset", b"", method="GET")
    assert answer.status == 404
    assert "/_sandbox/script" in answer.json["error"]


def test_script_and_log_are_bounded():
    journal = Journal()
    journal.script(*[""] * MAX_STEPS)
    with pytest.raises(ScriptFull):
        journal.script(Step("html"))
    for _ in range(MAX_ENTRIES + 5):
        journal.open("POST", "/" + "x" * 5000, [(f"h{n}", "v" * 5000) for n in range(100)])
    assert len(journal.entries) == MAX_ENTRIES
    assert journal.entries[0].number == 6
    assert len(json.dumps(journal.entries[0].dict())) < 50_000


async def test_unknown_urls_and_methods_are_answered_in_the_formats_envelope(vendor: Sandbox):
    missing = await fetch(vendor, "/v1/teapots/%FF", {})
    assert missing.status == 404
    assert missing.json["error"]["type"] == "invalid_request_error"
    wrong_method = await fetch(vendor, MESSAGES, b"", method="GET")
    assert wrong_method.status == 405
    assert wrong_method.json["type"] == "error"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": NaN}', b"\xff", b'{"model": "\\ud800"}', b"[" * 5000]
)
async def test_a_body_that_is_not_a_json_object_is_rejected(vendor: Sandbox, body: bytes):
    answer = await fetch(vendor, CHAT, body)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"


async def test_a_body_above_the_limit_is_rejected(vendor: Sandbox):
    reader, writer = await connect(vendor)
    writer.write(request(CHAT, b" " * (32 * 1024 * 1024 + 1)))
    answer = Carried(await reader.readuntil(b"\r\n\r\n"))
    assert answer.status == 413
    writer.transport.abort()


async def test_messages_require_the_version_header(vendor: Sandbox):
    answer = await fetch(vendor, MESSAGES, message(), anthropic_version="")
    assert answer.status == 400
    assert "anthropic-version" in answer.json["error"]["message"]


async def test_a_key_with_invalid_bytes_is_a_wrong_key():
    async with Sandbox(require_key="sk-right") as sandbox:
        answer = await fetch(sandbox, CHAT, chat(), authorization="Bearer \xfc\xff")
        assert answer.status == 401


async def test_stopping_cuts_off_waiting_answers():
    async with Sandbox() as sandbox:
        reader, writer = await connect(sandbox)
        writer.write(request(CHAT, chat("[[delay=600]]")))
        while not sandbox.journal.entries:
            await asyncio.sleep(0.01)
    assert await reader.read() == b""
    assert sandbox.journal.entries[-1].outcome is Outcome.SHUT_DOWN
    writer.close()
    await writer.wait_closed()
